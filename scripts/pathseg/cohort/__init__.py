"""Who is there, and what is asked for: configuration, tables of samples and slides, parts of the patients.

It is read by the workflow itself, so that it needs neither PyTorch nor images; only `splitting` counts with NumPy.

May use: the ground floor.
"""
