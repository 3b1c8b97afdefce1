"""Two threads beside one other busy process: how long a waiting thread of GNU OpenMP should look for work.

    python examples/benchmarks/busy_neighbour.py [--rounds N] [--seconds S] [--quick]

Training steps (batches of 256) and inference run with OpenMP's default, 300,000 looks, with the tool's 2,000, and with
none, each in a process of its own; by turns, first on an idle machine, then beside a process that keeps one core busy.
Medians of images per second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from resnetcli.engine.runtime import processor_name
from resnetcli.services.turns import Turn, elsewhere

LOOKS = {"default": "300000", "2,000": "2000", "none": "0"}
KINDS = ("training", "inference")
CHILD = """
import sys
from resnetcli.config.train import TrainConfig
from resnetcli.data.noise import random_split
from resnetcli.engine.runtime import resolve_runtime
from resnetcli.events import ignore
from resnetcli.services import turns
runtime = resolve_runtime("cpu", 2, "fp32")
images = random_split(2048)
config = TrainConfig(batch_size=256, optimizer="muon", lr=0.01, branch_scale=0.3)
make = {"training": lambda: turns.training(config, runtime, images, ignore),
        "inference": lambda: turns.inference("identity", runtime, images)}
turns.serve(make[sys.argv[1]]()[0])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    given = parser.parse_args()
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, given.seconds)

    print(f"{processor_name()}, two threads, images per second\n")
    print(f"{'':28s}" + "".join(f"{name:>10s}" for name in LOOKS))
    with ExitStack() as stack:
        turns: dict[tuple[str, str], Turn] = {}
        for kind in KINDS:
            for name, looks in LOOKS.items():
                command = [sys.executable, "-P", "-c", CHILD, kind]
                environment = {**os.environ, "GOMP_SPINCOUNT": looks}
                turns[kind, name] = stack.enter_context(elsewhere(f"{kind} ({name})", command, environment))
        for turn in turns.values():  # the first turn warms up
            turn(seconds)
        measure("idle", turns, rounds, seconds)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            measure("beside a busy process", turns, rounds, seconds)
        finally:
            busy.kill()
            busy.wait()


def measure(where: str, turns: dict[tuple[str, str], Turn], rounds: int, seconds: float) -> None:
    """Lets all take turns, and prints a line for each kind."""
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
    for _ in range(rounds):
        for key, turn in turns.items():
            rates[key].append(turn(seconds))
    for kind in KINDS:
        medians = (statistics.median(rates[kind, name]) for name in LOOKS)
        print(f"{kind + ', ' + where:28s}" + "".join(f"{median:10,.0f}" for median in medians), flush=True)


if __name__ == "__main__":
    main()
