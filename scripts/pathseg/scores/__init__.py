"""How good predictions are: what is counted, and the tables, intervals and figures that follow from the counts.

May use: the ground floor, labels.
"""
