"""What the fault tests did, as rows of the table in the README's reliability section.

A test that broke something calls `broke(row, fault, cases, outcome)` once it has seen the outcome. Where
RESNETCLI_FAULTS names a file, each call appends a line of JSON to it; `python -m tests.faults.table FILE` draws them.

RESNETCLI_FULL_SECONDS limits how long tests marked `full` may go on starting; `-rs` lists those that then did not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.worker import Worker

Broke = Callable[[int, str, int, str], None]
BEGAN = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    limit = os.environ.get("RESNETCLI_FULL_SECONDS")
    if limit and item.get_closest_marker("full") and time.monotonic() - BEGAN > float(limit):
        pytest.skip(f"not started: the {limit} s of RESNETCLI_FULL_SECONDS are over")


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """Runs what computes in children of a process that has torch ready."""
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: a kill takes nothing from the kernel, and a power failure is played on a log."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def broke() -> Broke:
    """`broke(row, fault, cases, outcome)`: so many cases of this fault, and what came of all of them."""

    def record(row: int, fault: str, cases: int, outcome: str) -> None:
        if path := os.environ.get("RESNETCLI_FAULTS"):
            line = json.dumps({"row": row, "fault": fault, "cases": cases, "outcome": outcome}) + "\n"
            with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123  # appended to by several processes
                file.write(line)

    return record
