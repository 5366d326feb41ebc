"""Train a network: batches, steps, validation, and a state from which a killed run goes on."""

import fcntl
import logging
import math
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np
import torch
from tensorboardX import SummaryWriter
from torch import Tensor

from pathseg.augment import Augmentation, augment
from pathseg.checkpoint import save_checkpoint
from pathseg.database import TileDatabase
from pathseg.devices import autocast, compute_type
from pathseg.errors import TrainingError
from pathseg.labels import IGNORE
from pathseg.logs import progress
from pathseg.losses import class_weights, soft_dice_loss, weighted_cross_entropy
from pathseg.metrics import class_scores, mean_dice, overall_accuracy
from pathseg.unet import UNet

logger = logging.getLogger("pathseg")

# Tiles are held in memory if they take no more than this.
MEMORY_BYTES = 2 * 2**30
SECONDS_BETWEEN_SAVES = 600
# Validation tiles that TensorBoard shows while training runs, and how often in all.
SHOWN_TILES, SHOWN_TIMES = 4, 10


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the fields are those of `training` in the configuration."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    gradient_clip: float
    ema_decay: float
    class_weights: str | list[float]
    edge_weight: float
    edge_width: int
    dice_weight: float
    patience: int | None
    precision: str
    seed: int
    augmentation: Augmentation

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make settings from the configuration's `training` block."""
        plain = {field.name: config[field.name] for field in fields(cls) if field.name != "augmentation"}
        return cls(**plain, augmentation=Augmentation(**config["augmentation"]))


class Tiles:
    """The tiles of one or more databases as one sequence, in memory if they fit.

    Parameters
    ----------
    databases
        All with one tile size.
    """

    def __init__(self, databases: list[TileDatabase]) -> None:
        self.databases = databases
        self._ends = np.cumsum([len(database) for database in databases])
        self._held: tuple[np.ndarray, np.ndarray] | None = None
        if sum(database.n_bytes for database in databases) <= MEMORY_BYTES:
            parts = [database.read(np.arange(len(database))) for database in databases]
            self._held = np.concatenate([images for images, _ in parts]), np.concatenate([masks for _, masks in parts])
            for database in databases:
                database.close()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """Say which sample a tile is from and where it lies."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        database = self.databases[number]
        within = index - (int(self._ends[number - 1]) if number else 0)
        x, y = database.corners[within]
        return f"{database.samples[within]} at x={x:.0f}, y={y:.0f}"

    def read(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return tiles: images uint8 [n, 3, H, W] (channels last in memory) and masks uint8 [n, H, W]."""
        images, masks = self._read_held(indices) if self._held else self._read_files(indices)
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks)

    def _read_held(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._held[0][indices], self._held[1][indices]

    def _read_files(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        side = self.databases[0].attributes["tile_size"]
        images = np.empty((len(indices), side, side, 3), np.uint8)
        masks = np.empty((len(indices), side, side), np.uint8)
        numbers = np.searchsorted(self._ends, indices, side="right")
        starts = np.concatenate([[0], self._ends[:-1]])
        for number in np.unique(numbers):
            chosen = numbers == number
            images[chosen], masks[chosen] = self.databases[number].read(indices[chosen] - starts[number])
        return images, masks

    def batches(self, plan: list[np.ndarray], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a plan on the device, each read while the one before is used."""
        with ThreadPoolExecutor(1) as reader:
            waiting = [reader.submit(self._read_pinned, indices, device) for indices in plan[:2]]
            for position in range(len(plan)):
                images, masks = waiting.pop(0).result()
                if position + 2 < len(plan):
                    waiting.append(reader.submit(self._read_pinned, plan[position + 2], device))
                yield images.to(device, non_blocking=True), masks.to(device, non_blocking=True)

    def _read_pinned(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        images, masks = self.read(indices)
        return (images.pin_memory(), masks.pin_memory()) if device.type == "cuda" else (images, masks)


def epoch_plan(n_tiles: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the tiles of each batch of an epoch: each tile once, in an order fixed by seed and epoch."""
    order = torch.randperm(n_tiles, generator=_generator(seed, epoch)).numpy()
    return np.array_split(order, math.ceil(n_tiles / batch_size))


def _generator(*numbers: int) -> torch.Generator:
    """Return a generator whose stream depends on all the numbers (and on nothing that ran before)."""
    mixed = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(mixed[0]) << 32 | int(mixed[1]))


def learning_rate(step: int, steps_per_epoch: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero at the end."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    share = (step - warmup) / max(1.0, settings.epochs * steps_per_epoch - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


class Tally:
    """Loss and confusion matrix summed up over batches, on the device until they are asked for."""

    def __init__(self, n_classes: int, device: torch.device) -> None:
        self.n_classes = n_classes
        self.confusion = torch.zeros(n_classes**2, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.tiles = 0

    def add(self, logits: Tensor, masks: Tensor, loss: Tensor) -> None:
        """Count a batch: logits [N, C, H, W], masks [N, H, W], and the mean loss."""
        pairs = masks * self.n_classes + logits.argmax(dim=1)
        pairs = torch.where(masks == IGNORE, self.n_classes**2, pairs)
        self.confusion += torch.bincount(pairs.flatten(), minlength=self.n_classes**2 + 1)[:-1]
        self.loss += loss.detach().double() * len(masks)
        self.tiles += len(masks)

    def mean_loss(self) -> float:
        """Return the mean loss of a tile."""
        return float(self.loss) / max(self.tiles, 1)

    def matrix(self) -> np.ndarray:
        """Return the confusion matrix [C, C]; rows are the truth."""
        return self.confusion.cpu().numpy().reshape(self.n_classes, self.n_classes)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {"confusion": self.confusion.cpu(), "loss": self.loss.cpu(), "tiles": self.tiles}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.confusion.copy_(state["confusion"])
        self.loss.copy_(state["loss"])
        self.tiles = state["tiles"]


class Trainer:
    """Trains a network and keeps the state from which a killed run goes on.

    Everything random in a step follows from the seed, the epoch and the step alone, so that a resumed run repeats
    exactly what an uninterrupted one does.

    Parameters
    ----------
    network
        Network with its initial weights.
    training, validation
        Tiles to train on and to validate with.
    settings
        How to train.
    classes
        Names of the classes.
    device
        Where to train.
    state_folder
        Folder for the state, which must outlive a failed job.
    definition
        What makes this training what it is (settings, network, data, code), by name. A state made under another
        definition is not used.
    """

    def __init__(
        self,
        network: UNet,
        training: Tiles,
        validation: Tiles,
        settings: TrainingSettings,
        classes: list[str],
        device: torch.device,
        state_folder: Path,
        definition: dict[str, str],
    ) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)
        self.averaged = {name: values.clone() for name, values in network.state_dict().items()}
        self.training, self.validation = training, validation
        self.settings, self.classes, self.device = settings, classes, device
        self.state_folder, self.definition = state_folder, definition
        self.dtype = compute_type(settings.precision, device)
        self.steps_per_epoch = math.ceil(len(training) / settings.batch_size)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        pixels = sum(torch.from_numpy(database.class_pixels) for database in training.databases)
        self.weights = class_weights(settings.class_weights, pixels).to(device)
        self.epoch, self.step = 0, 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"score": -math.inf, "epoch": 0, "loss": math.inf, "model_dict": None}
        self._tally = Tally(len(classes), device)
        self._stop_requested = False

    def run(self) -> dict[str, Any]:
        """Train to the end, from the saved state if there is one, and return the best snapshot.

        Returns
        -------
        dict
            `model_dict`, `optim_dict`, `epoch` (from 1), `loss` and `score` (mean Dice) on the validation tiles.

        Raises
        ------
        TrainingError
            If the loss is not a number, the memory is used up, or another process trains the same.
        """
        self.state_folder.mkdir(parents=True, exist_ok=True)
        with only_one(self.state_folder), self._sigterm_saves(), self._memory_errors_explained():
            self._load_state()
            with SummaryWriter(str(self.state_folder / "tensorboard"), purge_step=self.epoch, flush_secs=30) as board:
                left = self.settings.epochs - self.epoch
                for _ in progress(self._epochs(), "training", total=left, unit="epoch"):
                    self._run_epoch(board)
            return self.best

    def _epochs(self) -> Iterator[int]:
        """Yield the epochs that are left, until patience is over."""
        patience = self.settings.patience or math.inf
        while self.epoch < self.settings.epochs:
            if self.epoch - self.best["epoch"] >= patience:
                logger.info("stops after epoch %d: no better score in %d epochs", self.epoch, patience)
                return
            yield self.epoch
            self.epoch += 1

    def _run_epoch(self, board: SummaryWriter) -> None:
        started = time.monotonic()
        self._train_epoch()
        trained = time.monotonic()
        validated = self._validate()
        record = self._record(validated, trained - started, time.monotonic() - trained)
        self.history.append(record)
        self._write_board(board, validated)
        if (record["val_dice"], -record["val_loss"]) > (self.best["score"], -self.best["loss"]):
            self.best = {
                "score": record["val_dice"],
                "loss": record["val_loss"],
                "epoch": self.epoch + 1,
                "model_dict": {name: values.cpu().clone() for name, values in self._validated_weights().items()},
                "optim_dict": _on_cpu(self.optimizer.state_dict()),
            }
        self.step = 0
        self._tally = Tally(len(self.classes), self.device)
        self._save_state(self.epoch + 1)

    def _train_epoch(self) -> None:
        self.network.train()
        plan = epoch_plan(len(self.training), self.settings.batch_size, self.settings.seed, self.epoch)[self.step :]
        saved = time.monotonic()
        before: tuple[Tensor, np.ndarray] | None = None
        for indices, (images, masks) in zip(plan, self.training.batches(plan, self.device), strict=True):
            loss = self._train_step(images, masks)
            # The loss is looked at one step late, so that a GPU never waits for this check.
            self._check_loss(before)
            before = loss, indices
            self.step += 1
            if self._stop_requested or time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                self._check_loss(before)
                self._save_state(self.epoch)
                saved = time.monotonic()
            if self._stop_requested:
                raise TrainingError("stopped by SIGTERM; the state is saved, and the next run goes on from it")
        self._check_loss(before)

    def _train_step(self, images: Tensor, masks: Tensor) -> Tensor:
        settings = self.settings
        step = self.epoch * self.steps_per_epoch + self.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps_per_epoch, settings)
        images, masks = augment(images, masks, settings.augmentation, _generator(settings.seed, self.epoch, self.step))
        logits, masks, loss = self._loss(images, masks)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        self.optimizer.step()
        self._average_weights(step)
        self._tally.add(logits.detach(), masks, loss)
        return loss.detach()

    def _loss(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the masks cut to their size, and the loss."""
        settings = self.settings
        with autocast(self.device, self.dtype):
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        masks = cut_to(masks, logits)
        loss = weighted_cross_entropy(logits, masks, self.weights, settings.edge_weight, settings.edge_width)
        if settings.dice_weight:
            loss = loss + settings.dice_weight * soft_dice_loss(logits, masks)
        return logits, masks, loss

    def _check_loss(self, pending: tuple[Tensor, np.ndarray] | None) -> None:
        if pending is None or math.isfinite(float(pending[0])):
            return
        names = "; ".join(self.training.name(int(index)) for index in pending[1])
        raise TrainingError(
            f"the loss is not a number in epoch {self.epoch + 1}, step {self.step + 1}; lower training.learning_rate, "
            f"or look at the tiles of that step: {names}"
        )

    @torch.no_grad()
    def _average_weights(self, step: int) -> None:
        """Follow the weights by an exponential moving average that starts fast."""
        decay = min(self.settings.ema_decay, (1 + step) / (10 + step))
        averaged, current = [], []
        for name, values in self.network.state_dict().items():
            if values.dtype.is_floating_point:
                averaged.append(self.averaged[name])
                current.append(values)
            else:
                self.averaged[name].copy_(values)
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _validated_weights(self) -> dict[str, Tensor]:
        return self.averaged if self.settings.ema_decay else self.network.state_dict()

    @torch.no_grad()
    def _validate(self) -> Tally:
        """Score the averaged weights on the validation tiles, which are never changed."""
        tally = Tally(len(self.classes), self.device)
        kept = {name: values.clone() for name, values in self.network.state_dict().items()}
        self.network.load_state_dict(self._validated_weights())
        self.network.eval()
        plan = np.array_split(
            np.arange(len(self.validation)), math.ceil(len(self.validation) / self.settings.batch_size)
        )
        for images, masks in self.validation.batches(plan, self.device):
            logits, masks, loss = self._loss(images.float() / 255, masks.long())
            tally.add(logits, masks, loss)
        self.network.load_state_dict(kept)
        return tally

    def _record(self, validated: Tally, train_seconds: float, val_seconds: float) -> dict[str, Any]:
        record: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": self._tally.mean_loss(),
            "val_loss": validated.mean_loss(),
            "train_accuracy": overall_accuracy(self._tally.matrix()),
            "val_accuracy": overall_accuracy(validated.matrix()),
            "train_dice": mean_dice(self._tally.matrix()),
            "val_dice": mean_dice(validated.matrix()),
        }
        scores = class_scores(validated.matrix(), self.classes)
        record |= {f"val_dice_{name}": dice for name, dice in zip(scores["class"], scores["dice"], strict=True)}
        return record | {"train_seconds": round(train_seconds, 2), "val_seconds": round(val_seconds, 2)}

    def _write_board(self, board: SummaryWriter, validated: Tally) -> None:
        epoch, record = self.epoch, self.history[-1]
        board.add_scalar("learning_rate", record["learning_rate"], epoch)
        for phase, tally in (("train", self._tally), ("val", validated)):
            for what in ("loss", "accuracy", "dice"):
                board.add_scalar(f"{phase}/{what}", record[f"{phase}_{what}"], epoch)
            for name, value in class_rates(tally.matrix(), self.classes).items():
                board.add_scalar(f"{phase}/{name}", value, epoch)
        if epoch % max(1, self.settings.epochs // SHOWN_TIMES) == 0 or epoch + 1 == self.settings.epochs:
            board.add_image("val/image_truth_prediction", self._sheet(), epoch, dataformats="HWC")

    @torch.no_grad()
    def _sheet(self) -> np.ndarray:
        """Draw some validation tiles: image, truth and prediction side by side, uint8 [H, W, 3]."""
        chosen = np.unique(np.linspace(0, len(self.validation) - 1, SHOWN_TILES).astype(int))
        images, masks = self.validation.read(chosen)
        self.network.eval()
        logits, known, _ = self._loss(images.to(self.device).float() / 255, masks.to(self.device).long())
        grey = np.linspace(0, 255, len(self.classes)).astype(np.uint8)
        truth = grey[known.clamp(max=len(self.classes) - 1).cpu().numpy()]
        predicted = grey[logits.argmax(dim=1).cpu().numpy()]
        shown = cut_to(images, logits).permute(0, 2, 3, 1).cpu().numpy()
        rows = [
            np.concatenate([picture, *(np.repeat(m[..., None], 3, axis=2) for m in (mask, guess))], axis=1)
            for picture, mask, guess in zip(shown, truth, predicted, strict=True)
        ]
        return np.concatenate(rows)

    def _state_path(self) -> Path:
        return self.state_folder / "state.pt"

    def _save_state(self, epoch: int) -> None:
        save_checkpoint(
            self._state_path(),
            {
                "definition": self.definition,
                "epoch": epoch,
                "step": self.step,
                "model": self.network.state_dict(),
                "averaged": self.averaged,
                "optimizer": self.optimizer.state_dict(),
                "tally": self._tally.state(),
                "history": self.history,
                "best": self.best,
            },
        )

    def _load_state(self) -> None:
        path = self._state_path()
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever is wrong with the file, the answer is to start anew
            logger.warning("%s cannot be read (%s); training starts anew", path, error)
            return
        changed = sorted(
            key
            for key in {*state["definition"], *self.definition}
            if state["definition"].get(key) != self.definition.get(key)
        )
        if changed:
            logger.info("%s is of another training (%s changed); training starts anew", path, ", ".join(changed))
            shutil.rmtree(self.state_folder / "tensorboard", ignore_errors=True)
            return
        self.network.load_state_dict(state["model"])
        for name, values in state["averaged"].items():
            self.averaged[name].copy_(values)
        self.optimizer.load_state_dict(state["optimizer"])
        self._tally.restore(state["tally"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history, self.best = state["history"], state["best"]
        if self.epoch or self.step:
            logger.info("goes on from %s: epoch %d, step %d", path, self.epoch + 1, self.step + 1)

    @contextmanager
    def _sigterm_saves(self) -> Iterator[None]:
        """Stop at the next step when the scheduler asks to, with the state saved."""

        def request_stop(_signal: int, _frame: FrameType | None) -> None:
            self._stop_requested = True

        before = signal.signal(signal.SIGTERM, request_stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def _memory_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingError(
                f"the memory of {self.device} is used up at batch size {self.settings.batch_size}; lower "
                "training.batch_size, training.augmentation.crop, or unet.wf"
            ) from error


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; a second process that asks for it gets an error. The system frees it at a kill."""
    with open(folder / "lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"another process trains in {folder} (perhaps one whose Snakemake was killed); wait for it or stop it"
            ) from error
        yield


def cut_to(maps: Tensor, logits: Tensor) -> Tensor:
    """Cut the middle out of [N, ..., H, W] to the size of logits, which unpadded networks make smaller."""
    height, width = logits.shape[-2:]
    top, left = (maps.shape[-2] - height) // 2, (maps.shape[-1] - width) // 2
    return maps[..., top : top + height, left : left + width]


def class_rates(confusion: np.ndarray, names: list[str]) -> dict[str, float]:
    """Return TP, FP, TN, FN and their rates for each class, named as `class/TP`.

    Parameters
    ----------
    confusion
        [C, C], rows are the truth.
    names
        Names of the classes.
    """
    rates: dict[str, float] = {}
    total = confusion.sum()
    for index, name in enumerate(names):
        hit = confusion[index, index]
        missed, false_alarm = confusion[index].sum() - hit, confusion[:, index].sum() - hit
        rest = total - hit - missed - false_alarm
        rates |= {f"{name}/TP": hit, f"{name}/FP": false_alarm, f"{name}/TN": rest, f"{name}/FN": missed}
        positive, negative = max(hit + missed, 1), max(rest + false_alarm, 1)
        rates |= {f"{name}/TPR": hit / positive, f"{name}/FNR": missed / positive}
        rates |= {f"{name}/TNR": rest / negative, f"{name}/FPR": false_alarm / negative}
    return {name: float(value) for name, value in rates.items()}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
