"""The training loop. It is handed a model, batches, a way to validate and a way to save; it knows no paths and prints
nothing.

Where it stands is (epoch, step) and three sums. Order and augmentation follow from seed, epoch and index, learning
rates from the step: so a run that goes on from its state computes, bit for bit, what the uninterrupted one would
have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetcli.config.train import TrainConfig
from resnetcli.engine.averaging import make_average
from resnetcli.engine.graphs import GraphedStep
from resnetcli.engine.guard import DeviceGuard, magnitude
from resnetcli.engine.optim import Optimizers
from resnetcli.engine.readback import Readback
from resnetcli.engine.runtime import Runtime, peak_memory
from resnetcli.engine.schedule import learning_rate_share
from resnetcli.errors import DivergedError
from resnetcli.events import EpochDone, Notice, OnEvent, StepDone
from resnetcli.results.train import EpochRow

REPORT_SECONDS = 0.1
"""Not more often than an eye can follow."""
OTHER_WEIGHTS = "start from other weights"
"""What to do where a run cannot begin: no learning rate had a part in that."""


class Batches(Protocol):
    """`batches(epoch, first_step)` yields images and targets, `steps` an epoch of `batch_size` images each.

    Images are float32[B,3,H,W]; targets labels, int64[B], or shares of the classes, float32[B,C]. Shapes may change
    from epoch to epoch, not within one.
    """

    steps: int
    batch_size: int

    def __call__(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass
class Position:
    """Where the loop stands. `step` counts inside `epoch` (both from 0), to the number of its steps where only the
    validation is left to do; `sums` are loss, right answers and images so far."""

    epoch: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    seconds: float = 0.0
    total_seconds: float = 0.0
    history: list[EpochRow] = field(default_factory=list)


class Trainer:
    """Owns model, optimisers, averaging and position. `run` goes on from wherever these stand."""

    def __init__(self, model: nn.Module, batches: Batches, config: TrainConfig, runtime: Runtime) -> None:
        self.model = model
        self.batches = batches
        self.config = config
        self.runtime = runtime
        self.optimizers = Optimizers(model, config, runtime.precision)
        self.total_steps = config.epochs * batches.steps
        self.average = make_average(model, config, batches.steps)
        self.guard = DeviceGuard(runtime.device) if runtime.device.type == "cuda" else None
        if self.guard:
            self.optimizers.hold_by(self.guard.held)
        self.position = Position(sums=self._no_sums())
        self._compute = GraphedStep(self._step) if runtime.device.type == "cuda" else self._step
        self._saved_at: tuple[int, int] | None = None

    @property
    def global_step(self) -> int:
        return self.position.epoch * self.batches.steps + self.position.step

    def _no_sums(self) -> Tensor:
        """Zeros on the device, in float64 where there is one."""
        device = self.runtime.device
        return torch.zeros(3, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model has the weights that are validated and handed out."""
        return self.average.applied() if self.average else nullcontext()

    def run(
        self,
        *,
        validate: Callable[[], tuple[float, float] | None],
        save: Callable[[dict[str, float]], None],
        on_event: OnEvent,
        stop: Callable[[], bool],
    ) -> str:
        """Trains to the end and returns "finished", "patience", or, saved in between, "max_time" or "stopped".

        `validate` returns loss and accuracy, or None where `stop` cut it short; (nan, nan) without a validation
        split. `save` is given the validation metrics of the moment, none inside an epoch. Raises DivergedError, with
        the parameters as they were before the first bad step; nothing that is not finite is ever saved.
        """
        position, began = self.position, time.monotonic()
        if self._saved_at is None:
            self._save(save, {})  # the beginning: from here on there is always something to resume
        while position.epoch < self.config.epochs:
            if self._out_of_patience():
                return "patience"
            if (reason := self._train_epoch(save, on_event, stop, began)) is not None:
                self._save(save, {})
                return reason
            with self.averaged():
                measured = validate()
            if measured is None:
                self._save(save, {})
                return "stopped"
            if not math.isnan(measured[1]) and not math.isfinite(measured[0]):
                raise self._diverged(f"the validation loss is {measured[0]}", self.global_step)
            row = self._close_epoch(*measured)
            best = self._is_best(row)
            metrics = {"train_loss": row.train_loss, "train_top1": row.train_top1}
            if row.val_loss is not None and row.val_top1 is not None:
                metrics |= {"val_loss": row.val_loss, "val_top1": row.val_top1}
            self._save(save, metrics)
            on_event(EpochDone(row, best))
        return "patience" if self._out_of_patience() else "finished"

    def _save(self, save: Callable[[dict[str, float]], None], metrics: dict[str, float]) -> None:
        """Saves what is finite and has moved: a second save of one position would lose what the first says of it."""
        here = self.position.epoch, self.position.step
        if here != self._saved_at:
            self.check_weights()
            save(metrics)
            self._saved_at = here

    def _train_epoch(
        self, save: Callable[[dict[str, float]], None], on_event: OnEvent, stop: Callable[[], bool], began: float
    ) -> str | None:
        """The rest of this epoch; a reason if it was cut short."""
        position, config = self.position, self.config
        self.model.train()
        start, before, first_step = time.monotonic(), position.seconds, position.step
        reported, saved = start, start
        readback: Readback[tuple[int, float]] = Readback()
        for images, targets in self.batches(position.epoch, position.step):
            if stop():
                return "stopped"
            if config.max_time and time.monotonic() - began > config.max_time * 60:
                return "max_time"
            lr = self.step(images, targets)
            position.step += 1
            now = time.monotonic()
            position.seconds = before + now - start
            last = position.step == self.batches.steps
            if last or (now - reported >= REPORT_SECONDS and readback.idle):
                reported = now
                readback.ask(self._figures(), (position.step, lr))
            if (answer := readback.answer(wait=last)) is not None:
                (loss, right, seen, *guarded), (step, then_lr) = answer
                self._check_guard(guarded)
                if not math.isfinite(loss):
                    raise self._diverged("the loss is not finite", position.epoch * self.batches.steps + step)
                if last:  # only now has the device done what it was given
                    now = time.monotonic()
                    position.seconds = before + now - start
                rate = (step - first_step) * self.batches.batch_size / (now - start)
                on_event(StepDone(position.epoch + 1, step, loss / seen, right / seen, then_lr, rate))
                if isinstance(self._compute, GraphedStep) and (reason := self._compute.take_reason()):
                    on_event(Notice(f"the step could not be recorded as a CUDA graph and runs slower: {reason}", True))
            if now - saved >= config.save_every and not last:
                self._save(save, {})
                saved = time.monotonic()
                start += saved - now  # neither speed nor time of training depends on how often it saves
        return None

    def step(self, images: Tensor, targets: Tensor) -> float:
        """One optimiser step on a batch as of `Batches`; returns the learning rate.

        On a CPU raises DivergedError instead of stepping on a gradient that is not finite. On a GPU that would wait for
        the device, which there leaves the weights alone by itself from that step on: the loop hears of it when it
        reports, and before it validates or saves.
        """
        lr = self.optimizers.set_rate(learning_rate_share(self.global_step, self.batches.steps, self.config))
        self._compute(images, targets)
        if self.average:
            self.average.update(self.global_step + 1)
        return lr

    def _step(self, images: Tensor, targets: Tensor) -> None:
        """What a step does on the device: always the same operations on the same tensors.

        The answer to a mixed image counts as right where it is the class with the largest share. Label smoothing is
        that of Szegedy et al., "Rethinking the Inception architecture for computer vision" (2015,
        https://arxiv.org/abs/1512.00567), section 7; after three epochs of `fast` it costs 0.6 points, within chance
        (examples/ablation.md).
        """
        config, sums = self.config, self.position.sums
        self.model.zero_grad(set_to_none=True)  # a recording that failed may have left gradients that nothing computed
        losses: list[Tensor] = []
        parts = min(config.grad_accum, len(images))
        for first in range(parts):
            # Not neighbours: augmentation may have sorted the batch, and BatchNorm sees one part at a time.
            part = images[first::parts].contiguous(memory_format=torch.channels_last)
            wanted = targets[first::parts]
            with self.runtime.autocast():
                logits = self.model(part)
            loss = F.cross_entropy(logits.float(), wanted, label_smoothing=config.label_smoothing)
            (loss * (len(part) / len(images))).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach() * len(part))
            labels = wanted if wanted.ndim == 1 else wanted.argmax(1)
            sums[1] += (logits.detach().argmax(1) == labels).sum()
        sums[0] += torch.stack(losses).sum()
        sums[2] += len(images)
        if self.guard:
            self.guard.look(self._gradients(), sums[0])
        elif self.runtime.device.type == "cpu":
            self.check_finite()
        self.optimizers.step()
        self.model.zero_grad(set_to_none=True)  # their memory serves what comes between two steps

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    def _figures(self) -> Tensor:
        """What the loop reads back: the sums, and behind them the guard's figures where there is one."""
        return torch.cat([self.position.sums, self.guard.figures]) if self.guard else self.position.sums

    def check_finite(self) -> None:
        """Raises DivergedError unless the losses so far and the gradients of this moment are finite."""
        if not math.isfinite(float(magnitude(self._gradients(), self.position.sums[0]))):
            raise self._not_finite(self.global_step + 1)

    def check_weights(self) -> None:
        """Raises DivergedError unless the losses so far and all that would be saved of the network are finite."""
        if self.guard:
            self._check_guard(self.guard.figures.tolist())
        tensors = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        if not math.isfinite(float(magnitude(tensors, self.position.sums[0]))):
            raise self._diverged("loss, weights or BatchNorm statistics are not finite", self.global_step)

    def _check_guard(self, figures: list[float]) -> None:
        """Raises DivergedError where the guard has held a step."""
        if figures and figures[1]:
            raise self._not_finite(int(figures[1]))

    def _not_finite(self, global_step: int) -> DivergedError:
        """The error for loss or gradient of a step, before any learning rate has acted on them."""
        what = "loss or gradient is not finite"
        if global_step == 1 and self.config.init is not None:
            return DivergedError(f"training cannot begin: {what} in its first step", OTHER_WEIGHTS)
        return self._diverged(what, global_step)

    def _diverged(self, what: str, global_step: int) -> DivergedError:
        """The error for a step of the whole run, counted from 1."""
        if not global_step:
            return DivergedError(f"training cannot begin: {what}", OTHER_WEIGHTS)
        epoch, step = divmod(global_step - 1, self.batches.steps)
        lr = self.config.lr * learning_rate_share(global_step - 1, self.batches.steps, self.config)
        return DivergedError(
            f"training diverged: {what} in epoch {epoch + 1}, step {step + 1} (lr {lr:g})",
            f"try a lower learning rate, for instance --lr {self.config.lr / 4:g}, or --warmup-epochs 1",
        )

    def _rate(self) -> float:
        """The learning rate of the last step."""
        return self.config.lr * learning_rate_share(max(self.global_step - 1, 0), self.batches.steps, self.config)

    def _close_epoch(self, val_loss: float, val_top1: float) -> EpochRow:
        position = self.position
        loss, right, seen = position.sums.tolist()
        validated = not math.isnan(val_top1)
        row = EpochRow(
            epoch=position.epoch + 1,
            step=self.global_step,
            train_loss=loss / seen,
            train_top1=right / seen,
            val_loss=val_loss if validated else None,
            val_top1=val_top1 if validated else None,
            lr=self._rate(),
            images_per_s=seen / position.seconds,
            seconds=position.seconds,
            memory_mib=peak_memory(self.runtime.device) / 2**20,
        )
        position.history.append(row)
        position.total_seconds += position.seconds
        position.epoch, position.step, position.seconds = position.epoch + 1, 0, 0.0
        position.sums.zero_()  # in place: a recorded step adds to this very tensor
        return row

    def _is_best(self, row: EpochRow) -> bool:
        earlier = [r.val_top1 for r in self.position.history[:-1] if r.val_top1 is not None]
        return row.val_top1 is not None and row.val_top1 > max(earlier, default=-1.0)

    def _out_of_patience(self) -> bool:
        """An extension that has begun gives new patience."""
        accuracies = [r.val_top1 for r in self.position.history if r.val_top1 is not None]
        if not self.config.patience or not accuracies:
            return False
        here = self.position.epoch, self.position.step
        begun = [e.epoch for e in self.config.extensions if (e.epoch, e.step) <= here]
        since = max(1 + accuracies.index(max(accuracies)), *begun, 0)
        return len(accuracies) - since >= self.config.patience

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on besides the model's own (averaged) weights."""
        state = {f"optimizer/{name}": tensor for name, tensor in self.optimizers.state().items()}
        state |= {"sums": self.position.sums, "rng": torch.get_rng_state()}
        if self.average:
            state |= {f"fast/{name}": tensor for name, tensor in self.average.state().items()}
        return state

    def load_state(self, state: dict[str, Tensor], position: Position) -> None:
        """The inverse of `state`; the model already has the weights of the checkpoint. Raises KeyError, TypeError,
        ValueError or RuntimeError where it does not fit; weights and position are then what they were."""
        if state["sums"].shape != self.position.sums.shape:
            raise ValueError(f"sums is {tuple(state['sums'].shape)}, expected {tuple(self.position.sums.shape)}")
        if position.step > self.batches.steps:
            raise ValueError(f"step {position.step} of an epoch of {self.batches.steps}")
        fast = _below("fast/", state)
        if self.average:
            self.average.check(fast)
        torch.set_rng_state(state["rng"])
        stepped = position.epoch + position.step > 0
        self.optimizers.load_state(_below("optimizer/", state), stepped=stepped)
        if self.average:
            self.average.load_state(fast)
        position.sums = self.position.sums.copy_(state["sums"])
        self.position = position
        self._saved_at = position.epoch, position.step
        if self.guard:
            self.guard.go_on_after(self.global_step)


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
