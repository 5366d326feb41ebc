"""What several pathseg scripts share: small modules of pure functions and small classes.

Nothing in here knows about Snakemake: the scripts beside this package are the adaptors.
"""

__version__ = "0.1.0"
