"""Make docs/errors.md from the cases that the tests run.

Usage: PYTHONPATH=scripts:tests python docs/make_errors.py
"""

import tempfile
from pathlib import Path

from bad_inputs import CASES, message_of

DOCS = Path(__file__).parent
INTRODUCTION = """# Errors

What is said about input that is wrong. Each of these cases is run by the tests. The terminal shows
the message alone; the traceback is in the log file that the message names. Nothing that looks finished is left behind.
"""


def errors_page() -> str:
    """Return the text of docs/errors.md."""
    lines = [INTRODUCTION]
    topic = ""
    for case in CASES:
        if case.topic != topic:
            topic = case.topic
            lines.append(f"\n## {topic}\n\n| what is wrong | message |\n|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            message = message_of(case, Path(folder)).partition(": ")[2]
        lines.append(f"| {case.name} | {escaped(message)} |")
    return "\n".join(lines) + "\n"


def escaped(message: str) -> str:
    """Return a message as one cell of a table."""
    shown = " ".join(message.split())
    shown = shown if len(shown) < 400 else shown[:400] + " …"
    for character in "|<>*":
        shown = shown.replace(character, f"\\{character}")
    return shown


if __name__ == "__main__":
    (DOCS / "errors.md").write_text(errors_page(), encoding="utf-8")
