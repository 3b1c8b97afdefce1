"""`resnetcli inspect` beside `torchinfo.summary`: time of the whole process, and whether they count the same.

    pip install -e '.[benchmarks]'
    python examples/benchmarks/inspect_beside_torchinfo.py [--rounds N] [--quick]

Both describe the identity variant for one image, each in a fresh process, by turns; medians count, and a first round
fills the disk cache. torchinfo adds the parameters of BatchNorm and the biases to its multiply-adds, so that of the
multiply-accumulates only those of convolutions can be compared. Exits with 1 where they disagree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

TORCHINFO = """
import json, sys
from torchinfo import summary
from resnetcli.models.resnet import ResNet
result = summary(ResNet(), (1, 3, 32, 32), verbose=0)
print(result, file=sys.stderr)
convolutions = sum(layer.macs for layer in result.summary_list if layer.class_name == "Conv2d")
print(json.dumps({"parameters": result.total_params, "conv_macs": convolutions, "macs": result.total_mult_adds}))
"""
COMMANDS = {
    "resnetcli inspect": [sys.executable, "-P", "-m", "resnetcli", "inspect", "--shortcut", "identity", "--json"],
    "torchinfo": [sys.executable, "-P", "-c", TORCHINFO],
}
FIGURES = ("parameters", "conv_macs", "macs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    given = parser.parse_args()
    if find_spec("torchinfo") is None:
        sys.exit("torchinfo is missing: pip install -e '.[benchmarks]'")

    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    counted: dict[str, dict[str, int]] = {}
    for round_ in range(1 + (1 if given.quick else given.rounds)):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            if round_:
                seconds[name].append(time.perf_counter() - start)
            document = json.loads(done.stdout)
            counted[name] = {figure: document[figure] for figure in FIGURES}

    print(f"{'':18s} seconds   parameters   convolutions' MACs   all that it counts")
    for name, figures in counted.items():
        median = statistics.median(seconds[name])
        parameters, convolutions, everything = figures.values()
        print(f"{name:18s} {median:7.2f} {parameters:12,d} {convolutions:20,d} {everything:20,d}")
    ours, theirs = (statistics.median(seconds[name]) for name in COMMANDS)
    print(f"time of inspect over torchinfo's: {ours / theirs:.2f}x")
    first, second = counted.values()
    if (first["parameters"], first["conv_macs"]) != (second["parameters"], second["conv_macs"]):
        sys.exit("they do not count the same")


if __name__ == "__main__":
    main()
