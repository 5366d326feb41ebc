"""Errors that a user can act on: each message names the file, row or key, and says what to do; and how to say it."""

MOST_LINES = 20


def as_list(lines: list[str]) -> str:
    """Return lines of a message below each other, the first of them if they are many."""
    more = [f"... and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n  ".join([*lines[:MOST_LINES], *more])


def counted(number: int, name: str) -> str:
    """Say how many there are of something."""
    return f"{number} {name}" + ("s" if number != 1 else "")


class PathsegError(Exception):
    """Base of all errors that are the input's fault, shown without a traceback."""


class ConfigError(PathsegError):
    """A key of the configuration is unknown, of the wrong type, or contradicts another."""


class TableError(PathsegError):
    """A sample or slide table has a missing column, a bad row, or rows that contradict each other."""


class ImageError(PathsegError):
    """An image, mask or slide cannot be read, or holds what it should not."""


class ResolutionError(PathsegError):
    """The pixel size of an image is needed and not known."""


class ArchiveError(PathsegError):
    """An archive of images is incomplete, another one, or holds what it should not."""


class SplitError(PathsegError):
    """The patients cannot be divided into the parts that were asked for."""


class DatabaseError(PathsegError):
    """A tile database is damaged, empty, or does not fit the others."""


class CheckpointError(PathsegError):
    """A model file is not one that pathseg or its tutorial wrote, or does not fit."""


class ProjectError(PathsegError):
    """A QuPath project, or what was exported from one, is damaged or does not fit."""


class TrainingError(PathsegError):
    """Training cannot go on: the loss is not a number, or it was stopped."""


class ResourceError(PathsegError):
    """Memory or disk is used up, or a file may not be written."""


class WantOfMemoryError(ResourceError):
    """The memory of a device, or of the system, is used up."""
