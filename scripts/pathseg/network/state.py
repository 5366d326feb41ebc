"""The state from which a killed training goes on: its file, the lock on its folder, and the wish to stop."""

import fcntl
import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pathseg.errors import TrainingError
from pathseg.network.checkpoint import save_checkpoint
from pathseg.network.processes import process_number

logger = logging.getLogger("pathseg")


class StateFolder:
    """A folder that outlives a failed job, with the state of one training.

    Parameters
    ----------
    path
        The folder.
    definition
        What makes this training what it is (settings, network, data, code), by name. A state made under another
        definition is not used.
    """

    def __init__(self, path: Path, definition: dict[str, str]) -> None:
        self.path, self.definition = path, definition

    @property
    def file(self) -> Path:
        """File of the state."""
        return self.path / "state.pt"

    @property
    def board(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.path / "tensorboard"

    def save(self, state: dict[str, Any], best: dict[str, Any]) -> None:
        """Write a state in place of the one before.

        Parameters
        ----------
        state
            What changes with each step.
        best
            The best snapshot so far, written only when it is another one: its weights have a file of their own.
        """
        weights = self._weights_of(best)
        if best["epoch"] and not weights.exists():
            save_checkpoint(weights, best["model_dict"])
        without = {key: value for key, value in best.items() if key != "model_dict"}
        save_checkpoint(self.file, state | {"best": without, "definition": self.definition})
        self._clear(weights)

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None if there is none of this training; what belongs to another one is removed."""
        state = self._read()
        if not process_number():
            self._clear(self._weights_of(state["best"]) if state else None)
            if state is None:
                shutil.rmtree(self.board, ignore_errors=True)
        return state

    def _read(self) -> dict[str, Any] | None:
        if not self.file.is_file():
            return None
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            before, best = state["definition"], state["best"]
            best["model_dict"] = (
                torch.load(self._weights_of(best), map_location="cpu", weights_only=True) if best["epoch"] else None
            )
        except Exception as error:  # whatever is wrong with the files, the answer is to start anew
            logger.warning("%s cannot be read (%s); training starts anew", self.file, error)
            return None
        changed = sorted(key for key in {*before, *self.definition} if before.get(key) != self.definition.get(key))
        if not changed:
            return state
        logger.info("%s is of another training (%s changed); training starts anew", self.file, ", ".join(changed))
        return None

    def _weights_of(self, best: dict[str, Any]) -> Path:
        return self.path / f"best-{best['epoch']}.pt"

    def _clear(self, keep: Path | None) -> None:
        """Remove snapshots that are no longer the best: a state must not meet those of another."""
        for path in self.path.glob("best-*.pt"):
            if path != keep:
                path.unlink(missing_ok=True)

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Hold a lock on the folder; a second process that asks for it gets an error. The system frees it at a kill."""
        with open(self.path / "lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    f"another process trains in {self.path} (perhaps one whose Snakemake was killed); wait for it or "
                    "stop it"
                ) from error
            yield


class StopRequest:
    """Notes that the scheduler asks to stop (SIGTERM), so that the state can be saved first."""

    def __init__(self) -> None:
        self.made = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Note a SIGTERM within the block instead of ending by it."""

        def note(_signal: int, _frame: FrameType | None) -> None:
            self.made = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
