"""How long the parts of a run take on this machine, measured on the parts themselves."""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat

import safetensors.torch

from resnetcli.data.batches import EvalBatches
from resnetcli.data.sizes import small_epochs
from resnetcli.engine.evaluate import collect_logits, inference_rows
from resnetcli.engine.graphs import WARMUP_STEPS
from resnetcli.services.networks import for_inference
from resnetcli.services.setup import Setup

UNTIMED_STEPS = {"cuda": WARMUP_STEPS + 2}
"""The first step also builds torch's kernels, and on a GPU the first ones are recorded."""
STEPS_AT_ONCE = {"cpu": 1}
"""Steps between two looks at the clock: a GPU is given them faster than it takes them, and waiting for each would count
what a run does not do."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that the parts of a run take. `steps` are those of an epoch."""

    first_loss: float
    """Mean loss of the first step: not a time, but only known by taking it."""
    small_step: float
    """With the images with which the run begins; the same as `full_step` where these have full size."""
    full_step: float
    steps: int
    epoch_end: float
    """What each epoch has once: its order and augmentation are drawn, and it is validated."""
    run_end: float
    """The last measurement."""
    save: float
    save_every: float
    """Seconds between two saves inside an epoch, as in the config."""

    def seconds(self, epochs: int, small: int) -> float:
        """Of a run of `epochs`, the first `small` of them with small images."""
        training = self.steps * (self.full_step * (epochs - small) + self.small_step * small)
        inside = min(training / self.save_every if self.save_every else math.inf, self.steps * epochs)
        return training + self.epoch_end * epochs + self.run_end + self.save * (1 + epochs + inside)


def measure_pace(setup: Setup, *, timed_steps: int = 1, max_seconds: float = math.inf) -> Pace:
    """Takes training steps on real data, which change the network of `setup`, measures a batch of images, and writes
    what a checkpoint holds to a temporary file.

    Of each size of image the median of `timed_steps` counts (on a GPU of as many times ten); of fewer, but one at
    least, where they take longer than `max_seconds`. Raises DivergedError.
    """
    first_full = small_epochs(setup.config)
    sizes = [_take_steps(setup, epoch, timed_steps, max_seconds) for epoch in ((0, first_full) if first_full else (0,))]
    image = _seconds_per_image(setup)
    validated = len(setup.val[1])
    last = validated if setup.config.measure_on == "val" else len(setup.dataset.test.labels)
    return Pace(
        first_loss=sizes[0].first_loss,
        small_step=sizes[0].step,
        full_step=sizes[-1].step,
        steps=setup.trainer.batches.steps,
        epoch_end=sizes[-1].first_batch + image * validated,
        run_end=image * last,
        save=_seconds_per_save(setup),
        save_every=setup.config.save_every,
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    first_loss: float
    first_batch: float
    """Seconds until the first batch of an epoch is there."""
    step: float


def _take_steps(setup: Setup, epoch: int, count: int, max_seconds: float) -> _Steps:
    """Steps with batches of `epoch`."""
    trainer, at_once = setup.trainer, STEPS_AT_ONCE.get(setup.runtime.device.type, 10)
    trainer.model.train()
    start = time.perf_counter()
    batches = chain.from_iterable(trainer.batches(epoch) for _ in repeat(None))
    batch = next(batches)
    first_batch = time.perf_counter() - start
    trainer.step(*batch)
    loss, _, seen = trainer.position.sums.tolist()
    for _ in range(UNTIMED_STEPS.get(setup.runtime.device.type, 1) - 1):
        trainer.step(*next(batches))
    trainer.position.sums.tolist()  # waits for the device
    seconds, began = list[float](), time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        for _ in range(at_once):
            trainer.step(*next(batches))
        trainer.position.sums.tolist()
        seconds.append((time.perf_counter() - start) / at_once)
        if time.perf_counter() - began > max_seconds:
            break
    return _Steps(loss / seen, first_batch, statistics.median(seconds))


def _seconds_per_save(setup: Setup) -> float:
    """Of a checkpoint as it is written, in the folder for temporary files; 0 where there is none."""
    start = time.perf_counter()
    with suppress(OSError), tempfile.TemporaryFile() as file:
        for tensors in (setup.trainer.model.state_dict(), setup.trainer.state()):
            data = safetensors.torch.save({n: t.detach().cpu().contiguous() for n, t in tensors.items()})
            hashlib.sha256(data).digest()
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return time.perf_counter() - start
    return 0.0


def _seconds_per_image(setup: Setup) -> float:
    """Of measuring, from one batch after another that warms up."""
    rows = inference_rows(setup.runtime.device)
    network = for_inference(setup.network, setup.runtime.in_float32())
    normalize = setup.val[0].normalize
    images = next(iter(EvalBatches(setup.dataset.test.images.to(setup.runtime.device), rows, normalize)))
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        collect_logits(network, [images])
        seconds = time.perf_counter() - start
    return seconds / rows
