"""The table of the README's reliability section, from what the fault tests recorded.

RESNETCLI_FAULTS=faults.jsonl python -m pytest tests/faults -m "full or not full"
python -m tests.faults.table faults.jsonl            a line for each kind of fault
python -m tests.faults.table faults.jsonl --each     a line for each fault and outcome, as the tests put it
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

KINDS = {
    1: (
        "SIGKILL or an I/O error at each storage operation of start, save, replace, prune and resume",
        "a newest and a best checkpoint no older than the last acknowledged; leftovers cleared at the next start",
    ),
    2: ("SIGKILL at random moments", "no acknowledged checkpoint lost; resumed to byte-equal weights"),
    3: ("power loss, dropping every suffix of what was not synced", "as after SIGKILL"),
    4: (
        "resume at every step: fp32 and bf16, one thread and two, all optimisers and averages; chains of kills",
        "weights, optimiser, schedule, random numbers, metrics and best bit-equal to the undisturbed run",
    ),
    5: (
        "full disks, also at each storage operation, and limits on file size",
        "exit 7 with the bytes needed; what was saved stays; no litter",
    ),
    6: (
        "output directories read-only, gone or replaced, at the start and in mid-run",
        "an error, never exit 0",
    ),
    7: (
        "checkpoints cut short, or a bit flipped in data, header or manifest",
        "all detected: exit 4, or fallback",
    ),
    8: (
        "malicious pickles to every option that takes a checkpoint; files mutated under coverage guidance",
        "no code executed; exit 4 and one message, or a mutation that harms nothing",
    ),
    9: ("checkpoint bombs", "refused before allocation: under 400 MB above the import of torch, at most 1 s of work"),
    10: ("wrong variant, classes, keys, shapes, schema", "exit 4, expected against found; the live model untouched"),
    11: (
        "NaN or Inf in loss or gradient, at the first, a middle and the last step",
        "exit 5 before the weights change, with step, rate and a next command",
    ),
    12: (
        "dataset files missing, cut, flipped or mislabelled; cut downloads; hostile archives",
        "exit 3 names the file; nothing written outside; the cache never poisoned",
    ),
    13: (
        "pictures of every mode and orientation, cut, disguised, mutated, bombs",
        "right pixels, or one line for the bad file; the others go on; memory bounded",
    ),
    14: ("simultaneous starts", "one winner; the others exit 6 and name it; the lock dies with its process"),
    15: (
        "SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU while loading, stepping, saving, evaluating, "
        "downloading; twice; a closed terminal",
        "128 + the signal, saved within a step and a save; the second leaves at once; resumed bit-equal",
    ),
    16: ("no memory left", "exit 2 with the flag that needs less; what was saved is whole"),
}
"""What each row of faults comprises, and what came of every case: a test that sees anything else fails."""


def table(lines: list[str]) -> str:
    """Markdown, one line for each kind of fault."""
    cases = Counter[int]()
    for entry in map(json.loads, lines):
        cases[entry["row"]] += entry["cases"]
    return _markdown([(*KINDS[row], count) for row, count in sorted(cases.items())])


def each(lines: list[str]) -> str:
    """Markdown, one line for each fault and outcome; the cases of several tests add up."""
    cases = Counter[tuple[int, str, str]]()
    for entry in map(json.loads, lines):
        cases[entry["row"], entry["fault"], entry["outcome"]] += entry["cases"]
    return _markdown([(fault, outcome, count) for (_, fault, outcome), count in sorted(cases.items())])


def _markdown(rows: list[tuple[str, str, int]]) -> str:
    lines = [f"| {fault} | {count:,} | {outcome} |" for fault, outcome, count in rows]
    return "\n".join(["| what was broken | cases | what came of it |", "|---|---|---|", *lines])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.table",
        description="Draws what the fault tests did, from the file that RESNETCLI_FAULTS=FILE python -m pytest "
        "tests/faults has written.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--each", action="store_true", help="a line for each fault and outcome, not for each kind")
    given = parser.parse_args()
    if not given.file.is_file():
        parser.error(f"{given.file}: no such file")
    read = given.file.read_text(encoding="utf-8").splitlines()
    print(each(read) if given.each else table(read))
