"""What a step of training and an image of a measurement cost here, measured on the parts of a run."""

from __future__ import annotations

import time

from resnetcli.data.batches import EvalBatches
from resnetcli.engine.evaluate import collect_logits, inference_rows
from resnetcli.engine.graphs import WARMUP_STEPS
from resnetcli.services.networks import for_inference
from resnetcli.services.setup import Setup

UNTIMED_STEPS = {"cuda": WARMUP_STEPS + 2}
"""The first step also builds torch's kernels, and on a GPU the first ones are recorded."""


def take_steps(setup: Setup, epoch: int, count: int = 2, at_most: float = float("inf")) -> tuple[float, list[float]]:
    """Trains for real on batches of `epoch`: mean loss until the end of the first step, and the seconds of `count`
    steps after the untimed ones; of one at least, where they take longer than `at_most` seconds."""
    trainer = setup.trainer
    trainer.model.train()
    untimed = UNTIMED_STEPS.get(setup.runtime.device.type, 1)
    first_loss, seconds = 0.0, list[float]()
    began = time.perf_counter()
    for number in range(untimed + count):
        start = time.perf_counter()
        trainer.step(*next(trainer.batches(epoch, number % trainer.batches.steps)))
        loss, _, seen = trainer.position.sums.tolist()  # waits for the device
        end = time.perf_counter()
        first_loss = first_loss or loss / seen
        if number >= untimed:
            seconds.append(end - start)
            if end - began > at_most:
                break
    return first_loss, seconds


def seconds_per_image(setup: Setup) -> float:
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
