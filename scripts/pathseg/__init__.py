"""What several pathseg scripts share, a room for each subject; each room says what lives there and what it may use.

The ground floor, used by all, is the modules beside this file: errors, files, tables of results, logs, memory, digests,
what names may hold, colours and the look of figures, sizes of tiles. Nothing in here knows about Snakemake: the
scripts beside this package are the adaptors.

May use: the ground floor.
"""

__version__ = "0.1.0"
