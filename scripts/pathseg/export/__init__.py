"""A model in other programs: graphs that any runtime takes, a package of them, and what QuPath needs.

May use: the ground floor, network.
"""
