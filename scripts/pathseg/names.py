"""What names and paths may hold, so that no shell, command line, disk or spreadsheet takes them apart.

A name becomes a part of file names and of Snakemake's command line, which its Slurm plugin hands to a shell. What holds
on one machine and not on a cluster is refused on both; tests/workflow/test_slurm.py sends what is allowed to Slurm.
"""

import unicodedata
from pathlib import PurePath

# Of ASCII, beside letters and digits. Not: % (Slurm replaces %u in the names of its logs), the comma (Snakemake's
# command line), : and what other file systems refuse, and what a shell expands between double quotes.
NAME_PUNCTUATION = frozenset(" _.-+=@()[]#&;~^'")
# A shell expands the first five between double quotes, or a person's shell does; braces are Snakemake's wildcards, and
# angle brackets its path variables.
NOT_IN_PATHS = frozenset('$`"\\!{}<>')
# A spreadsheet takes what begins so for a formula, and a program for an option.
FORMULA_SIGNS = "=+@-"
# Control, format, surrogate, private and unassigned characters, and separators of lines: nobody sees them.
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
ALLOWED = "letters, digits, spaces and " + " ".join(sorted(NAME_PUNCTUATION - {" "}))

# 255 bytes is what disks take; an experiment's name, a temporary ending, `.log` and an underscore come with a name.
LONGEST_NAME = 170
LONGEST_COMPONENT = 255
LONGEST_PATH = 4095
LONGEST_CLASS_NAME = 100


def name_fault(name: str) -> str | None:
    """Say why a sample, patient or slide may not have this name; None if it may."""
    fault = _beginning_fault(name)
    if fault:
        return fault
    if name.startswith("."):
        return "begins with a dot, which hides files"
    if name.endswith("."):
        return "ends with a dot, which some disks drop"
    if name.startswith("'") or name.endswith("'"):
        return "begins or ends with an apostrophe, which Snakemake's command line drops"
    for character in name:
        if not _holds_everywhere(character):
            return f"has {described(character)}; use {ALLOWED}"
    return _length_fault(name, LONGEST_NAME)


def optional_name_fault(name: str) -> str | None:
    """Say why a cell may not hold this name; it may be empty."""
    return name_fault(name) if name else None


def path_fault(path: str) -> str | None:
    """Say why a file that becomes an input may not have this path; None if it may."""
    for character in path:
        # Snakemake writes what is not printable, such as a no-break space, as an escape that no shell takes back.
        if character in NOT_IN_PATHS or not character.isprintable():
            return f"has {described(character)}, which a shell or Snakemake would take apart; rename the file or folder"
    if path.startswith(("'", *FORMULA_SIGNS)):
        return f"begins with {path[0]}, which a command line or a spreadsheet would misread; rename the file or folder"
    if any(len(part.encode()) > LONGEST_COMPONENT for part in PurePath(path).parts):
        return f"has a part of more than {LONGEST_COMPONENT} bytes, which no disk takes"
    return _length_fault(path, LONGEST_PATH)


def class_name_fault(name: str) -> str | None:
    """Say why a class may not have this name; None if it may."""
    fault = _beginning_fault(name)
    if fault:
        return fault
    for character in name:
        if character == "|" or unicodedata.category(character) in HIDDEN:
            return f"has {described(character)}, which would break tables"
    if folded(name) == "all":
        return "is what tables of scores call all classes together"
    if folded(name).startswith("ignore") and name.endswith("*"):
        return "is QuPath's name for regions that are ignored"
    if folded(name) == "region*":
        return "is QuPath's name for regions in which all is annotated"
    return _length_fault(name, LONGEST_CLASS_NAME)


def described(character: str) -> str:
    """Return how to call a character in a message, also if it cannot be seen."""
    if "!" <= character <= "~":
        return character
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character').lower()})"


def folded(name: str) -> str:
    """Return what is equal for names that a disk may take for the same: case and Unicode form do not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def twins(names: list[str]) -> list[tuple[str, str]]:
    """Return pairs of different names that a disk may take for the same."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(folded(name), name), name) for name in names]
    return [(one, other) for one, other in pairs if one != other]


def _holds_everywhere(character: str) -> bool:
    """Say whether a character may be in a name: one that is seen, and of ASCII one that was tried."""
    if character.isascii():
        return character.isalnum() or character in NAME_PUNCTUATION
    return character.isprintable()


def _beginning_fault(name: str) -> str | None:
    if not name.strip():
        return "is empty"
    if name != name.strip():
        return "begins or ends with a space"
    if name.startswith(tuple(FORMULA_SIGNS)):
        return f"begins with {name[0]}, which a spreadsheet takes for a formula, or a program for an option"
    return None


def _length_fault(text: str, longest: int) -> str | None:
    size = len(text.encode("utf-8", "surrogatepass"))
    return f"has {size} bytes; {longest} are the most" if size > longest else None


# By the name that a schema gives as the `format` of a text.
FORMATS = {
    "name": name_fault,
    "name or nothing": optional_name_fault,
    "path": path_fault,
    "class name": class_name_fault,
}
