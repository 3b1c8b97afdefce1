"""`bench`: the tool's own speed beside a plain PyTorch loop and beside the machine's matrix products."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence

import torch

from resnetcli.config.base import IMAGE_SIZE
from resnetcli.config.commands import BenchInferConfig, BenchTrainConfig
from resnetcli.data.cifar10 import IMAGES_PER_BATCH, TRAIN_IMAGES
from resnetcli.data.noise import random_split
from resnetcli.engine.runtime import Runtime, peak_memory, processor_name
from resnetcli.events import OnEvent, Progress
from resnetcli.models.resnet import ResNet
from resnetcli.models.work import inference_flops, training_flops
from resnetcli.results.bench import BenchResult, FirstEpochs, Machine, Spread
from resnetcli.services import turns
from resnetcli.services.machine import runtime_for
from resnetcli.services.turns import PLAIN_BATCH_SIZE, Turn

TEST_IMAGES = IMAGES_PER_BATCH


def train(config: BenchTrainConfig, *, on_event: OnEvent, images: int = TRAIN_IMAGES) -> BenchResult:
    """Training steps as `train` takes them with this config, on random images: batches, augmentation and optimiser
    counted, validation and checkpoints not. The images have full size, as those of the plain loop; where the config
    begins with smaller ones, steps of that size have turns of their own.

    Raises UsageError for a device that is not there, DivergedError, ResnetCliError where the plain loop fails.
    """
    environment = dict(os.environ)
    runtime = runtime_for(config, on_event)
    with turns.plain_loop("train", config.shortcut, images, runtime, environment) as plain:
        split = random_split(images)
        full = config.model_copy(update={"start_size": IMAGE_SIZE})
        tool, batch_size = turns.training(full, runtime, split, on_event)
        contenders = {"tool": tool, "plain": plain, "matrix": turns.products(runtime)}
        if config.start_size != IMAGE_SIZE:
            contenders["first"], _ = turns.training(config, runtime, split, on_event)
        rates, memory = take_turns(contenders, config.rounds, config.seconds, runtime.device, on_event)
    return _result(
        "bench train",
        runtime,
        rates,
        shortcut=config.shortcut,
        optimizer=config.optimizer,
        batch_size=batch_size,
        images=TRAIN_IMAGES,
        flops_per_image=training_flops(ResNet(shortcut=config.shortcut)),
        peak_memory=memory,
        first_epochs=_first_epochs(config, rates),
    )


def _first_epochs(config: BenchTrainConfig, rates: Mapping[str, Sequence[float]]) -> FirstEpochs | None:
    if "first" not in rates:
        return None
    tool, matrix = spread(rates["first"]), spread(rates["matrix"])
    flops = training_flops(ResNet(shortcut=config.shortcut), config.start_size)
    share = tool.median * flops / matrix.median
    return FirstEpochs(image_size=config.start_size, tool=tool, flops_per_image=flops, roof_share=share)


def infer(config: BenchInferConfig, *, on_event: OnEvent, images: int = TEST_IMAGES) -> BenchResult:
    """The pass over a split that `evaluate` makes, on random images that lie decoded on the device.

    Raises UsageError for a device that is not there, ResnetCliError where the plain loop fails.
    """
    environment = dict(os.environ)
    runtime = runtime_for(config, on_event)
    with turns.plain_loop("infer", config.shortcut, images, runtime, environment) as plain:
        tool, batch_size = turns.inference(config.shortcut, runtime, random_split(images))
        contenders = {"tool": tool, "plain": plain, "matrix": turns.products(runtime)}
        rates, memory = take_turns(contenders, config.rounds, config.seconds, runtime.device, on_event)
    return _result(
        "bench infer",
        runtime,
        rates,
        shortcut=config.shortcut,
        optimizer=None,
        batch_size=batch_size,
        images=TEST_IMAGES,
        flops_per_image=inference_flops(ResNet(shortcut=config.shortcut)),
        peak_memory=memory,
    )


def take_turns(
    contenders: Mapping[str, Turn], rounds: int, seconds: float, device: torch.device, on_event: OnEvent
) -> tuple[dict[str, list[float]], int]:
    """The rates of each contender, one a round, and the peak memory after the very first turn, in bytes.

    What slows the machine down for a while meets all contenders: they take turns, round by round. A round before the
    first warms up and does not count.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    memory, done, total = 0, 0, (rounds + 1) * len(contenders)
    on_event(Progress("Measuring", done, total, "turns"))
    for round_ in range(rounds + 1):
        for name, turn in contenders.items():
            rate = turn(seconds)
            memory = memory or peak_memory(device)
            if round_:
                rates[name].append(rate)
            done += 1
            on_event(Progress("Measuring", done, total, "turns"))
    return rates, memory


def spread(rates: Sequence[float]) -> Spread:
    """Median and extremes of at least one rate."""
    return Spread(median=statistics.median(rates), low=min(rates), high=max(rates), rounds=tuple(rates))


def machine(runtime: Runtime) -> Machine:
    """What is being measured."""
    return Machine(
        device=str(runtime.device),
        name=torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else processor_name(),
        threads=runtime.threads,
        precision=runtime.precision,
        torch=torch.__version__,
    )


def _result(
    command: str,
    runtime: Runtime,
    rates: Mapping[str, Sequence[float]],
    *,
    shortcut: str,
    optimizer: str | None,
    batch_size: int,
    images: int,
    flops_per_image: int,
    peak_memory: int,
    first_epochs: FirstEpochs | None = None,
) -> BenchResult:
    tool, plain, matrix = (spread(rates[name]) for name in ("tool", "plain", "matrix"))
    roof = spread([rate / flops_per_image for rate in rates["matrix"]])
    return BenchResult(
        command=command,
        machine=machine(runtime),
        shortcut=shortcut,
        optimizer=optimizer,
        batch_size=batch_size,
        plain_batch_size=PLAIN_BATCH_SIZE,
        tool=tool,
        plain=plain,
        ratio=tool.median / plain.median,
        images=images,
        image_size=IMAGE_SIZE,
        first_epochs=first_epochs,
        seconds=images / tool.median,
        plain_seconds=images / plain.median,
        matrix=matrix,
        flops_per_image=flops_per_image,
        roof=roof,
        roof_share=tool.median / roof.median,
        plain_roof_share=plain.median / roof.median,
        peak_memory=peak_memory,
    )
