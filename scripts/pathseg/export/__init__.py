"""A model in other programs: graphs that any runtime takes, and what QuPath needs to run them.

May use: the ground floor, network, prediction.
"""
