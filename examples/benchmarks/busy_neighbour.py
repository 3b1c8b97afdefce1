"""Two threads beside one other busy process, by how long a waiting thread of GNU OpenMP spins (GOMP_SPINCOUNT).

    python examples/benchmarks/busy_neighbour.py [--rounds N] [--seconds S] [--quick]

Training steps of 256 images and inference, with libgomp's default of 300,000 spins, with the tool's 2,000 and with
none, each in a process of its own and all by turns; first on an idle machine, then beside a process that keeps one core
busy. Prints medians of images per second. --quick shows that everything runs; its figures mean little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack

import resnetcli  # noqa: F401  # before torch, which it keeps from loading libraries of the current folder

# isort: split
import torch

from resnetcli.config.train import TrainConfig
from resnetcli.data.noise import random_split
from resnetcli.engine.runtime import processor_name, resolve_runtime
from resnetcli.events import ignore
from resnetcli.services.bench import spread, take_turns
from resnetcli.services.turns import Turn, elsewhere, inference, serve, training

SPIN_COUNTS = {"libgomp": "300000", "2,000": "2000", "none": "0"}
KINDS = ("training", "inference")


def served(kind: str) -> None:
    """In a process of its own: takes turns of training or of inference on two threads in float32."""
    runtime, images = resolve_runtime("cpu", 2, "fp32"), random_split(2048)
    if kind == "training":
        config = TrainConfig(batch_size=256, optimizer="muon", lr=0.01, branch_scale=0.3)
        serve(training(config, runtime, images, ignore)[0])
    else:
        serve(inference("identity", runtime, images)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn")
    parser.add_argument("--quick", action="store_true", help="one round of short turns")
    given = parser.parse_args()
    rounds, seconds = (1, 0.2) if given.quick else (given.rounds, given.seconds)

    print(f"{processor_name()}, torch {torch.__version__}, two threads, images/s\n")
    print(f"{'spins':34s}" + "".join(f"{name:>9s}" for name in SPIN_COUNTS))
    with ExitStack() as stack:
        turns: dict[str, dict[str, Turn]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            for name, spins in SPIN_COUNTS.items():
                environment = {**os.environ, "GOMP_SPINCOUNT": spins}
                turns[kind][name] = stack.enter_context(
                    elsewhere(kind, [sys.executable, "-P", __file__, kind], environment)
                )
        measure("idle", turns, rounds, seconds)
        busy = subprocess.Popen([sys.executable, "-P", "-c", "while True: pass"])
        try:
            measure("beside a busy process", turns, rounds, seconds)
        finally:
            busy.kill()
            busy.wait()


def measure(where: str, turns: dict[str, dict[str, Turn]], rounds: int, seconds: float) -> None:
    """Prints a line for each kind of work."""
    for kind, contenders in turns.items():
        rates, _ = take_turns(contenders, rounds, seconds, torch.device("cpu"), ignore)
        medians = "".join(f"{spread(rates[name]).median:9,.0f}" for name in SPIN_COUNTS)
        print(f"{f'{kind}, {where}':34s}{medians}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in KINDS:
        served(sys.argv[1])
    else:
        main()
