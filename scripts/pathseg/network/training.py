"""The training loop: steps, epochs, validation."""

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from tensorboardX import SummaryWriter
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pathseg.errors import TrainingError
from pathseg.labels.values import FULL_EDGE
from pathseg.logs import progress
from pathseg.memory import memory_errors_explained
from pathseg.network.board import contact_sheet, has_pictures, open_board, write_epoch
from pathseg.network.cpu_layers import with_cpu_layers
from pathseg.network.devices import autocast, compute_type
from pathseg.network.losses import class_weights, cut_to, edge_band, soft_dice_loss, weighted_cross_entropy
from pathseg.network.processes import (
    all_reduce_sum,
    process_count,
    process_number,
    shard,
    with_synchronised_norms,
)
from pathseg.network.running_metrics import RunningMetrics
from pathseg.network.state import StateFolder, StopRequest
from pathseg.network.unet import UNet
from pathseg.scores.pixels import mean_dice, overall_accuracy, pixel_scores
from pathseg.tiles.augmentation import Augmentation, augment, draw_params
from pathseg.tiles.batches import Batch, Tiles, epoch_plan, generator_of

logger = logging.getLogger("pathseg")

SECONDS_BETWEEN_SAVES = 600
# Processes that train together agree every so many steps on whether to save or stop.
STEPS_BETWEEN_TALKS = 8
# Weight of a batch in the running statistics of batch norm (PyTorch's own).
NORM_MOMENTUM = 0.1
# Validation tiles that TensorBoard shows while training runs.
SHOWN_TILES = 4


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
    edges: str
    edge_weight: float
    edge_width: int
    edge_w0: float
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


def learning_rate(step: int, steps_per_epoch: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero at the end."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    share = (step - warmup) / max(1.0, settings.epochs * steps_per_epoch - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def set_norm_momentum(network: torch.nn.Module, step: int) -> None:
    """Let the running statistics of batch norm be plain means at first, so that what they began with is soon gone."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = max(NORM_MOMENTUM, 1 / (step + 1))


class Trainer:
    """Trains a network and keeps the state from which a killed run goes on.

    Everything random in a step follows from the seed, the epoch and the step alone, so that a resumed run repeats
    exactly what an uninterrupted one does. Several processes (see `pathseg.network.processes`) each take their part of
    every batch; the first one writes.

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
    state
        Where the state is kept.
    """

    def __init__(
        self,
        network: UNet,
        training: Tiles,
        validation: Tiles,
        settings: TrainingSettings,
        classes: list[str],
        device: torch.device,
        state: StateFolder,
    ) -> None:
        self.network = (with_cpu_layers if device.type == "cpu" else with_synchronised_norms)(network).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained: torch.nn.Module = self.network
        if process_count() > 1:
            self._trained = DistributedDataParallel(self.network, forward_sync_buffers=False)
        self.averaged = {name: values.clone() for name, values in self.network.state_dict().items()}
        self.training, self.validation = training, validation
        self.settings, self.classes, self.device = settings, classes, device
        self.state = state
        self.dtype = compute_type(settings.precision, device)
        self.steps_per_epoch = math.ceil(len(training) / settings.batch_size)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        pixels = torch.from_numpy(np.sum([database.class_pixels for database in training.databases], axis=0))
        self.weights = class_weights(settings.class_weights, pixels).to(device)
        self.epoch, self.step = 0, 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"score": -math.inf, "epoch": 0, "loss": math.inf, "model_dict": None}
        self._metrics = RunningMetrics(len(classes), device)
        self._stop = StopRequest()
        if len(epoch_plan(len(training), settings.batch_size, 0, 0)[-1]) < process_count():
            raise TrainingError(
                f"{process_count()} devices cannot share batches of {settings.batch_size} tiles; raise "
                "training.batch_size, or train on fewer"
            )

    def run(self) -> dict[str, Any]:
        """Train to the end, from the saved state if there is one, and return the best snapshot.

        Returns
        -------
        dict
            `model_dict`, `optim_dict`, `epoch` (from 1), `loss` and `score` (mean Dice) on the validation tiles.

        Raises
        ------
        TrainingError
            If the loss is not a number, or another process trains the same.
        ResourceError
            If the memory is used up.
        """
        self.state.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(self._stop.heard())
            stack.enter_context(
                memory_errors_explained(
                    self.device,
                    f"batches have {self.settings.batch_size} tiles; lower training.batch_size, "
                    "training.augmentation.crop, or unet.wf",
                )
            )
            if not process_number():
                stack.enter_context(self.state.only_one())
            self._load_state()
            epochs: Iterable[int] = self._epochs()
            board: SummaryWriter | None = None
            if not process_number():
                board = stack.enter_context(open_board(self.state.board, self.epoch))
                epochs = progress(epochs, "training", total=self.settings.epochs - self.epoch, unit="epoch")
            for _ in epochs:
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

    def _run_epoch(self, board: SummaryWriter | None) -> None:
        started = time.monotonic()
        self._train_epoch()
        trained = time.monotonic()
        self._metrics = self._metrics.over_processes()
        validated = self._validate()
        record = self._record(validated, trained - started, time.monotonic() - trained)
        self.history.append(record)
        if board:
            write_epoch(board, self.epoch, record, {"train": self._metrics, "val": validated}, self.classes)
            if has_pictures(self.epoch, self.settings.epochs):
                board.add_image("val/image_truth_prediction", self._sheet(), self.epoch, dataformats="HWC")
        if (record["val_dice"], -record["val_loss"]) > (self.best["score"], -self.best["loss"]):
            self.best = {
                "score": record["val_dice"],
                "loss": record["val_loss"],
                "epoch": self.epoch + 1,
                "model_dict": {name: values.cpu().clone() for name, values in self._validated_weights().items()},
                "optim_dict": _on_cpu(self.optimizer.state_dict()),
            }
        self.step = 0
        self._metrics = RunningMetrics(len(self.classes), self.device)
        self._save_state(self.epoch + 1)

    def _train_epoch(self) -> None:
        self.network.train()
        plan = epoch_plan(len(self.training), self.settings.batch_size, self.settings.seed, self.epoch)[self.step :]
        parts = [shard(indices) for indices in plan]
        batches = self.training.batches([indices[part] for indices, part in zip(plan, parts, strict=True)], self.device)
        saved = time.monotonic()
        before: tuple[Tensor, np.ndarray] | None = None
        for indices, part, batch in zip(plan, parts, batches, strict=True):
            loss = self._train_step(batch, len(indices), part)
            # The loss is looked at one step late, so that a GPU never waits for this check.
            self._check_loss(before)
            before = loss, indices
            self.step += 1
            save, stop = self._wishes(time.monotonic() - saved)
            if save or stop:
                self._check_loss(before)
                self._save_state(self.epoch)
                saved = time.monotonic()
            if stop:
                raise TrainingError("stopped by SIGTERM; the state is saved, and the next run goes on from it")
        self._check_loss(before)

    def _wishes(self, seconds_unsaved: float) -> tuple[bool, bool]:
        """Return whether to save and whether to stop, as all processes see it."""
        wishes = seconds_unsaved > SECONDS_BETWEEN_SAVES, self._stop.made
        if process_count() == 1:
            return wishes
        if (self.epoch * self.steps_per_epoch + self.step) % STEPS_BETWEEN_TALKS:
            return False, False
        save, stop = all_reduce_sum(torch.tensor(wishes, dtype=torch.float32, device=self.device)).tolist()
        return save > 0, stop > 0

    def _train_step(self, batch: Batch, batch_size: int, part: slice) -> Tensor:
        """Train on this process's part of a batch of so many tiles."""
        settings = self.settings
        step = self.epoch * self.steps_per_epoch + self.step
        set_norm_momentum(self.network, step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps_per_epoch, settings)
        generator = generator_of(settings.seed, self.epoch, self.step)
        changes = draw_params(batch_size, batch.images.shape[-1], settings.augmentation, generator)
        images, masks, edges = augment(*batch, settings.augmentation, changes.of(part, self.device))
        logits, masks, loss = self._loss(self._trained, images, masks, edges)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        self.optimizer.step()
        self._average_weights(step)
        self._metrics.add(logits.detach(), masks, loss)
        return loss.detach()

    def _loss(
        self, network: torch.nn.Module, images: Tensor, masks: Tensor, edges: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the masks cut to their size, and the loss."""
        settings = self.settings
        with autocast(self.device, self.dtype):
            logits = network(images.to(self.dtype, memory_format=torch.channels_last))
        # A plane for each class: what follows is fastest so.
        logits = logits.float().contiguous()
        factors = edge_factors(masks, edges, settings)
        masks = cut_to(masks, logits)
        factors = None if factors is None else cut_to(factors, logits)
        log_probabilities = F.log_softmax(logits, dim=1)
        loss = weighted_cross_entropy(log_probabilities, masks, self.weights, factors)
        if settings.dice_weight:
            loss = loss + settings.dice_weight * soft_dice_loss(log_probabilities, masks)
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
        """Follow the weights by an exponential moving average that starts fast; statistics of batch norm are copied."""
        decay = min(self.settings.ema_decay, (1 + step) / (10 + step))
        current = dict(self.network.named_parameters())
        torch._foreach_lerp_([self.averaged[name] for name in current], list(current.values()), 1 - decay)
        for name, values in self.network.named_buffers():
            self.averaged[name].copy_(values)

    def _validated_weights(self) -> dict[str, Tensor]:
        return self.averaged if self.settings.ema_decay else self.network.state_dict()

    @contextmanager
    def _as_validated(self) -> Iterator[None]:
        """Give the network the weights that are scored, and then its own back."""
        kept = {name: values.clone() for name, values in self.network.state_dict().items()}
        self.network.load_state_dict(self._validated_weights())
        self.network.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.network.load_state_dict(kept)

    def _validate(self) -> RunningMetrics:
        """Score the averaged weights on the validation tiles, which are never changed."""
        metrics = RunningMetrics(len(self.classes), self.device)
        plan = np.array_split(
            np.arange(len(self.validation)), math.ceil(len(self.validation) / self.settings.batch_size)
        )
        with self._as_validated():
            for batch in self.validation.batches([indices[shard(indices)] for indices in plan], self.device):
                metrics.add(*self._loss_as_stored(batch))
        return metrics.over_processes()

    def _loss_as_stored(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        edges = None if batch.edges is None else batch.edges.float() / FULL_EDGE
        return self._loss(self.network, batch.images.float() / 255, batch.masks.long(), edges)

    def _record(self, validated: RunningMetrics, train_seconds: float, val_seconds: float) -> dict[str, Any]:
        record: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": self._metrics.mean_loss(),
            "val_loss": validated.mean_loss(),
            "train_accuracy": overall_accuracy(self._metrics.matrix()),
            "val_accuracy": overall_accuracy(validated.matrix()),
            "train_dice": mean_dice(self._metrics.matrix()),
            "val_dice": mean_dice(validated.matrix()),
        }
        dice = pixel_scores(validated.matrix())["dice"]
        record |= {f"val_dice_{name}": float(value) for name, value in zip(self.classes, dice, strict=True)}
        return record | {"train_seconds": round(train_seconds, 2), "val_seconds": round(val_seconds, 2)}

    def _sheet(self) -> np.ndarray:
        """Draw some validation tiles: image, truth and prediction side by side, uint8 [H, W, 3]."""
        chosen = np.unique(np.linspace(0, len(self.validation) - 1, SHOWN_TILES).astype(int))
        batch = self.validation.read(chosen)
        with self._as_validated(), autocast(self.device, self.dtype):
            images = batch.images.to(self.device).float() / 255
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        return contact_sheet(batch.images, batch.masks, logits)

    def _save_state(self, epoch: int) -> None:
        metrics = self._metrics.over_processes().state()
        if process_number():
            return
        self.state.save(
            {
                "epoch": epoch,
                "step": self.step,
                "model": self.network.state_dict(),
                "averaged": self.averaged,
                "optimizer": self.optimizer.state_dict(),
                "metrics": metrics,
                "history": self.history,
                "best": self.best,
            }
        )

    def _load_state(self) -> None:
        state = self.state.load()
        if state is None:
            return
        self.network.load_state_dict(state["model"])
        for name, values in state["averaged"].items():
            self.averaged[name].copy_(values)
        self.optimizer.load_state_dict(state["optimizer"])
        if not process_number():
            self._metrics.restore(state["metrics"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history, self.best = state["history"], state["best"]
        if self.epoch or self.step:
            logger.info("goes on from %s: epoch %d, step %d", self.state.file, self.epoch + 1, self.step + 1)


def edge_factors(masks: Tensor, edges: Tensor | None, settings: TrainingSettings) -> Tensor | None:
    """Return the factor of each pixel in the loss: float32 [N, H, W], or None if all are 1.

    Parameters
    ----------
    masks
        int64 [N, H, W].
    edges
        Stored maps in 0..1, float32 [N, H, W], used with `edges: distance`.
    settings
        How to train.
    """
    if settings.edges == "distance" and edges is not None:
        return 1 + settings.edge_w0 * edges
    if settings.edge_weight == 1:
        return None
    return 1 + (settings.edge_weight - 1) * edge_band(masks, settings.edge_width).float()


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
