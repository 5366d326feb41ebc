"""The training loop: steps, epochs, validation."""

import copy
import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pathseg.errors import TrainingError
from pathseg.labels.values import FULL_EDGE
from pathseg.logs import progress
from pathseg.memory import memory_errors_explained
from pathseg.network.board import contact_sheet, has_pictures, open_board, write_epoch
from pathseg.network.losses import class_weights, cut_to, training_loss
from pathseg.network.optimisation import (
    TrainingSettings,
    decay_of,
    follow,
    make_optimizer,
    renew_statistics,
)
from pathseg.network.pace import MOST_SHARE, REST_SHARE, Pace, TimeLeft, changed_pace, epochs_within, seconds_of_some
from pathseg.network.precision import TYPES, autocast, name_of, training_type
from pathseg.network.processes import (
    all_reduce_sum,
    mean_over_processes,
    process_count,
    process_number,
    shard,
    with_synchronised_norms,
)
from pathseg.network.running_metrics import RunningMetrics, epoch_scores
from pathseg.network.state import StateFolder, StopRequest
from pathseg.network.unet import UNet
from pathseg.tiles.augmentation import Augmentation, AugmentationParams, Fed, augment, draw_params
from pathseg.tiles.batches import Batch, Tiles, epoch_plan, generator_of

logger = logging.getLogger("pathseg")

SECONDS_BETWEEN_SAVES = 300
# Processes that train together agree every so many batches on whether to save or stop.
BATCHES_BETWEEN_TALKS = 8
# Every so many steps it is looked at whether all were numbers: a GPU is waited for then.
STEPS_BETWEEN_LOOKS = 64
NEVER = 2**62
# Training tiles, about, over which the averaged network's batch norms take their statistics, and how much larger than
# in training the batches are: few tiles are more like each other than all are, and without gradients there is room.
NORM_TILES, NORM_BATCHES = 128, 4
# Where a time is given, the share of it that measuring a step, or a validation, may take.
MEASURED_SHARE = 0.03
# Validation tiles that TensorBoard shows while training runs.
SHOWN_TILES = 4


class Trainer:
    """Trains a network and keeps the state from which a killed run goes on.

    Everything random in a step follows from the seed, the epoch and the step alone, so that a resumed run repeats
    exactly what an uninterrupted one does. Several processes (see `pathseg.network.processes`) each take their part of
    every batch; the first one writes. A step waits for nothing that a GPU has yet to compute.

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

    Raises
    ------
    TrainingError
        If there are more processes than tiles in a batch, or no known pixel that the network reaches.
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
        self.network = with_synchronised_norms(network, device).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # What is scored and saved: the network with a moving average of its weights.
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self._trained: nn.Module = self.network
        if process_count() > 1:
            self._trained = DistributedDataParallel(self.network, forward_sync_buffers=False)
        self.training, self.validation = training, validation
        self.settings, self.classes, self.device = settings, classes, device
        self.state = state
        side = settings.augmentation.crop or training.side
        self.dtype = training_type(settings.precision, self.network, side, settings.batch_size, device)
        self.optimizer = make_optimizer(self.network, settings.learning_rate, settings.weight_decay)
        # Where a time is given, what fits into it is measured when the training begins.
        self._pace: Pace | None = None
        self._time: TimeLeft | None = None
        if settings.epochs:
            self._pace = self._first_pace(settings.epochs, math.ceil(len(training) / settings.batch_size))
        self.scaler = self._make_scaler()
        self._holders = training.holders(len(classes)) if settings.sampling == "classes" else None
        pixels = torch.from_numpy(np.sum([database.class_pixels for database in training.databases], axis=0))
        self.weights = class_weights(settings.class_weights, pixels).to(device)
        self.epoch, self.step, self.steps_done = 0, 0, 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"score": -math.inf, "epoch": 0, "loss": math.inf, "model_dict": None}
        self._metrics = RunningMetrics(len(classes), device)
        # The first step of the epoch whose loss or gradient was not a number.
        self._failed = torch.full((), NEVER, dtype=torch.int64, device=device)
        self._stop = StopRequest()
        self._saved = time.monotonic()
        self._check_batches()
        self._check_reach()

    def _first_pace(self, epochs: int, steps: int) -> Pace:
        """Return the pace of so many epochs and steps in each."""
        most = MOST_SHARE * epochs if self.settings.minutes else math.inf
        return Pace.of(epochs, steps, self.settings.warmup_epochs, self.settings.ema_half_life, most)

    @property
    def pace(self) -> Pace:
        """Epochs, and steps of each."""
        assert self._pace
        return self._pace

    def _make_scaler(self) -> torch.amp.GradScaler:
        """Return what multiplies the loss: in float16, with few bits for the exponent, small gradients would vanish."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def _check_batches(self) -> None:
        smallest = min(map(len, self._plan(0)))
        if smallest < process_count():
            raise TrainingError(
                f"{process_count()} devices cannot share batches of {self.settings.batch_size} tiles; raise "
                "training.batch_size, or train on fewer"
            )
        side = self.settings.augmentation.crop or self.training.side
        if self.network.batch_norm and smallest == process_count() and side <= self.network.stride:
            raise TrainingError(
                f"a batch of one tile of {side} pixels, of which the deepest level of the network has one, cannot be "
                "normalised; lower unet.depth, or raise tiles.size or training.batch_size"
            )

    def _check_reach(self) -> None:
        """Stop if the network, which without padding gives less than a tile, reaches no known pixel."""
        for tiles in (self.training, self.validation):
            border = (tiles.side - self.network.output_size(tiles.side)) // 2
            if not tiles.has_known_pixel(border):
                names = ", ".join(str(database.path) for database in tiles.databases)
                raise TrainingError(
                    f"{names}: no known pixel is {border} pixels from the rim of its tile, which a network without "
                    f"padding does not reach; set tiles.pad to {border}, or unet.padding to true"
                )

    def run(self) -> dict[str, Any]:
        """Train to the end, from the saved state if there is one, and return the best snapshot.

        Returns
        -------
        dict
            `model_dict`, `epoch` (from 1), `loss` and `score` (mean Dice) on the validation tiles.

        Raises
        ------
        TrainingError
            If the loss is not a number, no epoch has a score, or another process trains the same.
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
            if self.settings.minutes:
                self._time = TimeLeft(60 * (1 - REST_SHARE) * self.settings.minutes)
            self._load_state()
            if not self._pace:
                self._pace = self._first_pace(*self._measured_pace())
            epochs: Iterable[int] = self._epochs()
            board: SummaryWriter | None = None
            if not process_number():
                board = stack.enter_context(open_board(self.state.board, self.epoch))
                epochs = progress(epochs, "training", total=self.pace.epochs - self.epoch, unit="epoch")
            for _ in epochs:
                self._run_epoch(board)
            self._save_state()
        if not self.best["epoch"]:
            raise TrainingError(
                "no epoch has a score on the validation tiles, so that there is no model to keep; lower "
                "training.learning_rate, or look at the masks of the validation images"
            )
        return self.best

    def _measured_pace(self) -> tuple[int, int]:
        """Return the epochs that fit into the time, and steps of each, by steps and validations of a copy."""
        assert self._time
        assert self.settings.minutes
        # The same in all processes, which measure as many steps and batches.
        limit = MEASURED_SHARE * 60 * self.settings.minutes
        settings = dataclasses.replace(self.settings, epochs=1, minutes=None, precision=name_of(self.dtype))
        trial = Trainer(
            copy.deepcopy(self.network), self.training, self.validation, settings, self.classes, self.device, self.state
        )
        # It saves nothing: this training's state is there.
        trial._saved = math.inf
        step = trial.seconds_of_a_step(limit)
        validation = trial.seconds_of_a_validation(limit)
        left = mean_over_processes(self._time.seconds(), self.device)
        epochs, steps = epochs_within(left, step, validation, trial.pace.steps)
        logger.info(
            "a step takes %.3g s and a validation %.3g s: %d epochs of %d steps fit into %g minutes",
            step,
            validation,
            epochs,
            steps,
            self.settings.minutes,
        )
        self._time.note(steps, steps * step, validation)
        return epochs, steps

    def seconds_of_a_step(self, limit: float) -> float:
        """Return what a step of training takes, measured in about `limit` seconds."""

        def some(count: int) -> None:
            plan = list(itertools.islice(itertools.cycle(self._plan(0)), count))
            for batch in self._batches(plan, 0, 0, self.settings.augmentation):
                self._train_step(batch)

        self.network.train()
        _, count = seconds_of_some(some, 1, limit, self.device)
        return seconds_of_some(some, count, limit, self.device)[0] / count

    def seconds_of_a_validation(self, limit: float) -> float:
        """Return what a validation takes, from one with a batch and one with several, in about `limit` seconds."""
        batches = math.ceil(len(self.validation) / self.settings.batch_size)
        first, count = seconds_of_some(self._validate, 1, limit, self.device)
        count = min(count, batches)
        if count == 1:
            return first * batches
        first, _ = seconds_of_some(self._validate, 1, limit, self.device)
        several, _ = seconds_of_some(self._validate, count, limit, self.device)
        return first + max(several - first, 0) / (count - 1) * (batches - 1)

    def _epochs(self) -> Iterator[int]:
        """Yield the epochs that are left, until patience is over."""
        patience = self.settings.patience or math.inf
        while self.epoch < self.pace.epochs:
            if self.epoch - self.best["epoch"] >= patience:
                logger.info("stops after epoch %d: no better score in %d epochs", self.epoch, patience)
                return
            yield self.epoch

    def _keep_time(self, time_left: TimeLeft) -> None:
        """Let the training end when its time does, as far as the last epochs tell."""
        costs = time_left.costs(self.pace.epochs - self.epoch)
        if costs:
            numbers = [mean_over_processes(number, self.device) for number in (*costs, time_left.seconds())]
            self._pace = changed_pace(self.pace, self.epoch, self.steps_done, *numbers)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self.settings.learning_rate * self.pace.rate(self.steps_done)

    def _run_epoch(self, board: SummaryWriter | None) -> None:
        started, whole = time.monotonic(), self.step == 0
        self._train_epoch()
        trained = time.monotonic()
        validated = self._validate()
        phases = {"train": self._metrics.over_processes(), "val": validated}
        record = {
            "epoch": self.epoch + 1,
            "learning_rate": self.learning_rate,
            **epoch_scores(phases, self.classes),
            "train_seconds": round(trained - started, 2),
            "val_seconds": round(time.monotonic() - trained, 2),
        }
        self.history.append(record)
        if board:
            write_epoch(board, self.epoch, record, phases, self.classes)
            if has_pictures(self.epoch, self.pace.epochs):
                board.add_image("val/image_truth_prediction", self._sheet(), self.epoch, dataformats="HWC")
        if (record["val_dice"], -record["val_loss"]) > (self.best["score"], -self.best["loss"]):
            self.best = {
                "score": record["val_dice"],
                "loss": record["val_loss"],
                "epoch": self.epoch + 1,
                "model_dict": {name: values.cpu().clone() for name, values in self.averaged.state_dict().items()},
            }
        self.epoch, self.step = self.epoch + 1, 0
        if self._time:
            # What is left of an epoch that was begun by an earlier process says little.
            if whole:
                self._time.note(self.pace.steps, trained - started, time.monotonic() - trained)
            self._keep_time(self._time)
        self._metrics = RunningMetrics(len(self.classes), self.device)
        self._failed.fill_(NEVER)
        self._save_or_stop(0)

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """Return the tiles of each batch of an epoch, for all processes together."""
        plan = epoch_plan(len(self.training), self.settings.batch_size, self.settings.seed, epoch, self._holders)
        return plan[: self._pace.steps] if self._pace else plan

    def _batches(self, plan: list[np.ndarray], epoch: int, first: int, settings: Augmentation) -> Iterator[Batch]:
        """Yield this process's part of the batches of an epoch from a step on, with what changes them."""
        parts = [shard(indices) for indices in plan]

        def draw(position: int) -> AugmentationParams:
            generator = generator_of(self.settings.seed, epoch, first + position)
            return draw_params(len(plan[position]), self.training.side, settings, generator).of(parts[position])

        mine = [indices[part] for indices, part in zip(plan, parts, strict=True)]
        return self.training.batches(mine, self.device, draw)

    def _train_epoch(self) -> None:
        self.network.train()
        first = self.step
        for batch in self._batches(self._plan(self.epoch)[first:], self.epoch, first, self.settings.augmentation):
            self._train_step(batch)
            self.step += 1
            if self.step % STEPS_BETWEEN_LOOKS == 0:
                self._check_numbers()
            self._save_or_stop(self.step)
        self._check_numbers()

    def _save_or_stop(self, batch: int) -> None:
        """Save the state after a batch if it is time, and stop if that was asked for."""
        save, stop = self._wishes(batch)
        if save or stop:
            self._save_state()
        if stop:
            raise TrainingError("stopped by SIGTERM; the state is saved, and the next run goes on from it")

    def _wishes(self, batch: int) -> tuple[bool, bool]:
        """Return whether to save and whether to stop, as all processes see it."""
        wishes = time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES, self._stop.made
        if process_count() == 1:
            return wishes
        if batch % BATCHES_BETWEEN_TALKS:
            return False, False
        save, stop = all_reduce_sum(torch.tensor(wishes, dtype=torch.float32, device=self.device)).tolist()
        return save > 0, stop > 0

    def _train_step(self, batch: Batch) -> None:
        """Train on this process's part of a batch."""
        logits, masks, loss = self._loss(self._trained, self._augmented(batch, self.settings.augmentation))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        clip = self.settings.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        follow(self.averaged, self.network, decay_of(self.pace.half_life, self.steps_done))
        self.steps_done += 1
        self._metrics.add(logits.detach(), masks, loss)
        # A scaler leaves steps out whose gradient is too large, and scales less.
        watched = loss.detach() if self.scaler.is_enabled() else loss.detach() + norm
        failed = self._failed.clamp(max=self.step)
        self._failed = torch.where(torch.isfinite(watched), self._failed, failed)

    def _augmented(self, batch: Batch, settings: Augmentation) -> Fed:
        assert batch.params is not None
        return augment(batch.images, batch.masks, batch.edges, settings, batch.params, batch.insides)

    def _input(self, images: Tensor) -> Tensor:
        """Return images in 0..1 as the network takes them."""
        return images.to(self.dtype, memory_format=torch.channels_last)

    def _loss(self, network: nn.Module, fed: Fed) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of the classes, the masks cut to their size, and the loss."""
        with autocast(self.device, self.dtype):
            logits = network(self._input(fed.images))
        # A plane for each class: what follows is fastest so.
        logits = logits.float().contiguous()
        loss = training_loss(logits, fed, self.weights, self.settings)
        return logits[:, : len(self.classes)], cut_to(fed.masks, logits), loss

    def _check_numbers(self) -> None:
        """Stop if a loss or gradient of the epoch was not a number."""
        step = int(self._failed)
        if step == NEVER:
            return
        names = "; ".join(self.training.name(int(index)) for index in self._plan(self.epoch)[step])
        raise TrainingError(
            f"the loss or its gradient is not a number in epoch {self.epoch + 1}, step {step + 1}; lower "
            f"training.learning_rate, or look at the tiles of that step: {names}"
        )

    @torch.no_grad()
    def _validate(self, most: int | None = None) -> RunningMetrics:
        """Score the averaged weights on the validation tiles, which are never changed, or on some of their batches."""
        with autocast(self.device, self.dtype):
            renew_statistics(self.averaged, self._norm_images())
        metrics = RunningMetrics(len(self.classes), self.device)
        parts = np.array_split(
            np.arange(len(self.validation)), math.ceil(len(self.validation) / self.settings.batch_size)
        )
        batches = self.validation.batches([indices[shard(indices)] for indices in parts[:most]], self.device)
        for number, batch in enumerate(batches):
            metrics.add(*self._loss_as_stored(batch))
            self._save_or_stop(number)
        return metrics.over_processes()

    def _norm_images(self) -> Iterator[Tensor]:
        """Yield this process's part of some training tiles, of all images alike, the same ones in each epoch.

        They are mirrored and recoloured, but not resampled: what is predicted is as sharp as it was stored, and
        statistics of smoother tiles do not fit it.
        """
        changes = self.settings.augmentation
        settings = dataclasses.replace(changes, rotation=0, scaling=0, elastic=0, crop=None)
        # Whole tiles, where steps see a part of each.
        seen = ((changes.crop or self.training.side) / self.training.side) ** 2
        size = math.ceil(max(NORM_BATCHES * seen, 1) * self.settings.batch_size)
        count = math.ceil(min(NORM_TILES, len(self.training)) / size)
        chosen = np.linspace(0, len(self.training) - 1, min(count * size, len(self.training))).round().astype(int)
        # Neighbours, which are alike, in different batches.
        parts = [chosen[start::count] for start in range(count)]
        for batch in self._batches(parts, 0, 0, settings):
            yield self._input(self._augmented(batch, settings)[0])

    def _loss_as_stored(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        edges = None if batch.edges is None else batch.edges.float() / FULL_EDGE
        insides = None if batch.insides is None else batch.insides.long()
        return self._loss(self.averaged, Fed(batch.images.float() / 255, batch.masks.long(), edges, insides))

    @torch.no_grad()
    def _sheet(self) -> np.ndarray:
        """Draw some validation tiles: image, truth and prediction side by side, uint8 [H, W, 3]."""
        chosen = np.unique(np.linspace(0, len(self.validation) - 1, SHOWN_TILES).astype(int))
        batch = self.validation.read(chosen)
        with autocast(self.device, self.dtype):
            logits = self.averaged(self._input(batch.images.to(self.device).float() / 255))
        return contact_sheet(batch.images, batch.masks, logits[:, : len(self.classes)])

    def _save_state(self) -> None:
        self._check_numbers()
        metrics = self._metrics.over_processes().state()
        self._saved = time.monotonic()
        if process_number():
            return
        self.state.save(
            {
                "epoch": self.epoch,
                "step": self.step,
                "model": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "precision": name_of(self.dtype),
                "pace": dataclasses.astuple(self.pace),
                "steps_done": self.steps_done,
                "time": self._time.state() if self._time else None,
                "metrics": metrics,
                "history": self.history,
            },
            self.best,
        )

    def _load_state(self) -> None:
        state = self.state.load()
        if state is None:
            return
        self.network.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self._pace = Pace(*state["pace"])
        self.steps_done = state["steps_done"]
        if state["time"]:
            self._time = TimeLeft(*state["time"])
        self.optimizer.load_state_dict(state["optimizer"])
        # What was measured once is kept, whatever this machine would choose.
        self.dtype = TYPES[state["precision"]]
        self.scaler = self._make_scaler()
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if not process_number():
            self._metrics.restore(state["metrics"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history, self.best = state["history"], state["best"]
        logger.info(
            "goes on from %s: epoch %d, step %d, in %s",
            self.state.file,
            self.epoch + 1,
            self.step + 1,
            state["precision"],
        )
