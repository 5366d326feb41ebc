"""Who is there, and what is asked for: configuration, tables of samples and slides, parts of the patients.

It is read by the workflow itself, in any installation of Snakemake: it needs no NumPy, no pandas, no PyTorch.

May use: the ground floor.
"""
