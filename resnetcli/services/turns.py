"""What `bench` lets run by turns. A turn is given seconds, works about as long, and returns a rate per second."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import torch

from resnetcli.config.base import Shortcut
from resnetcli.config.train import TrainConfig
from resnetcli.data.batches import EvalBatches, Normalizer
from resnetcli.data.cifar10 import Split
from resnetcli.engine.evaluate import collect_logits, inference_rows
from resnetcli.engine.runtime import Runtime, seed_everything
from resnetcli.errors import ResnetCliError
from resnetcli.events import Notice, OnEvent
from resnetcli.models.resnet import ResNet
from resnetcli.services.networks import MEAN, STD, channels_last, for_inference
from resnetcli.services.setup import make_trainer

Turn = Callable[[float], float]

CPU_PRODUCTS = ((2048, 2048, 2048), (4096, 1024, 1024), (8192, 512, 512))
GPU_PRODUCTS = ((8192, 8192, 8192), (16384, 4096, 4096), (4096, 4096, 4096))
"""Rows, inner size and columns. Which is fastest differs by machine, precision and thread count."""
PRODUCTS_AT_ONCE = 10
"""Products between two looks at the clock: a GPU is given them faster than it computes them."""

PLAIN_BATCH_SIZE = 100

KILLED = 9
"""SIGKILL, which Windows has no name for: what the kernel sends where there is no memory left."""

ANSWER = "images per second: "
"""What an answer of another process begins with."""

FOREVER = {"epochs": 100_000, "max_time": None, "patience": 0, "save_every": math.inf, "start_size_until": 1.0}
"""In place of settings that would end a run, interrupt it, or change its images, while it is being measured."""


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def timed(work: Callable[[Callable[[], bool]], float], seconds: float, device: torch.device) -> float:
    """What `work` says that it did, per second. It is handed a question, whether the time is up."""
    synchronize(device)
    start = time.perf_counter()
    done = work(lambda: time.perf_counter() - start >= seconds)
    synchronize(device)
    return done / (time.perf_counter() - start)


def training(config: TrainConfig, runtime: Runtime, split: Split, on_event: OnEvent) -> tuple[Turn, int]:
    """Images per second of the loop that `train` runs, with a new network, and its images per step.

    Each turn goes on where the last one stopped, saves nothing and validates nothing. What the loop has to say of
    itself is passed on, its progress is not. Raises DivergedError.
    """
    config = config.model_copy(update=FOREVER)
    seed_everything(config.seed)
    network = channels_last(ResNet(shortcut=config.shortcut, branch_scale=config.branch_scale))
    trainer = make_trainer(network, split.images, split.labels, Normalizer(MEAN, STD, runtime.device), config, runtime)
    batch_size = trainer.batches.batch_size

    def work(time_is_up: Callable[[], bool]) -> float:
        before = trainer.global_step
        trainer.run(
            validate=lambda: (math.nan, math.nan),
            save=lambda metrics: None,
            on_event=lambda event: on_event(event) if isinstance(event, Notice) else None,
            stop=lambda: trainer.global_step > before and time_is_up(),
        )
        return (trainer.global_step - before) * batch_size

    return lambda seconds: timed(work, seconds, runtime.device), batch_size


def inference(shortcut: Shortcut, runtime: Runtime, split: Split) -> tuple[Turn, int]:
    """Images per second of the pass that `evaluate` makes over a split, and the images that it computes at a time."""
    device = runtime.device
    seed_everything(0)
    network = for_inference(channels_last(ResNet(shortcut=shortcut)), runtime)
    rows = inference_rows(device)
    batches = EvalBatches(split.images.to(device), rows, Normalizer(MEAN, STD, device))

    def work(time_is_up: Callable[[], bool]) -> float:
        done = 0

        def count(so_far: int) -> None:
            nonlocal done
            done = before + so_far

        while not done or not time_is_up():
            before = done
            collect_logits(network, batches, on_images=count, stop=lambda: done > 0 and time_is_up())
        return done

    return lambda seconds: timed(work, seconds, device), rows


def products(runtime: Runtime) -> Turn:
    """Floating-point operations per second of the machine's own matrix products, of the best of a few shapes."""
    device, dtype = runtime.device, runtime.dtype
    shapes = CPU_PRODUCTS if device.type == "cpu" else GPU_PRODUCTS

    def of_shape(rows: int, inner: int, columns: int, seconds: float) -> float:
        a = torch.randn(rows, inner, device=device).to(dtype)
        b = torch.randn(inner, columns, device=device).to(dtype)
        at_once = 1 if device.type == "cpu" else PRODUCTS_AT_ONCE

        def work(time_is_up: Callable[[], bool]) -> float:
            done = 0
            while not done or not time_is_up():
                for _ in range(at_once):
                    torch.mm(a, b)
                synchronize(device)
                done += at_once
            return 2.0 * rows * inner * columns * done

        return timed(work, seconds, device)

    return lambda seconds: max(of_shape(*shape, seconds / len(shapes)) for shape in shapes)


def plain_loop(
    kind: str, shortcut: Shortcut, images: int, runtime: Runtime, environment: Mapping[str, str]
) -> AbstractContextManager[Turn]:
    """Images per second of the loop of `services/plain.py`; `kind` is "train" or "infer"."""
    arguments = {"kind": kind, "shortcut": shortcut, "images": images}
    arguments |= {"device": str(runtime.device), "threads": runtime.threads}
    # -P and the package's own place: nothing of the folder that a person happens to be in is imported.
    command = [sys.executable, "-P", "-m", "resnetcli.services.plain", json.dumps(arguments)]
    home = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (home, environment.get("PYTHONPATH"))))
    environment = {**environment, "PYTHONPATH": paths}
    return elsewhere("the plain PyTorch loop", command, environment)


@contextmanager
def elsewhere(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Turn]:
    """Turns that another process takes: one that calls `serve`. It is ended with the context.

    `environment` is what this process began with. The tool sets the allocator, the determinism of cuDNN and the
    precision of products for its whole process, and another program has none of that; nor shall its memory count as
    the tool's. How OpenMP's threads wait it inherits: else a busy machine would slow it down several times more than
    the tool, and the ratio would say nothing of the arithmetic. Raises ResnetCliError where the process fails.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C is for us alone: we end it below
        )
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def turn(seconds: float) -> float:
            try:
                requests.write(f"{seconds!r}\n")
                requests.flush()
                for line in answers:
                    if line.startswith(ANSWER):
                        return float(line.removeprefix(ANSWER))
            except BrokenPipeError:
                pass
            code = process.wait()
            complaints.seek(0)
            last = (complaints.read().strip() or "it said nothing").splitlines()[-1]
            hint = "it needs about 1 GB of memory beside the tool's own" if code == -KILLED else ""
            raise ResnetCliError(f"{name} ended with exit code {code}: {last}", hint)

        try:
            yield turn
        finally:
            process.kill()
            process.wait()
            answers.close()
            with suppress(BrokenPipeError):  # what it did not live to read
                requests.close()


def serve(turn: Turn) -> None:
    """Takes the turns that `elsewhere` asks for, until stdin ends. What libraries print in between is passed over."""
    for line in sys.stdin:
        print(f"\n{ANSWER}{turn(float(line))}", flush=True)


def stepping(steps: Iterator[int], device: torch.device) -> Turn:
    """Turns of an endless loop that yields the images of each step."""

    def work(time_is_up: Callable[[], bool]) -> float:
        done = next(steps)
        while not time_is_up():
            done += next(steps)
        return done

    return lambda seconds: timed(work, seconds, device)
