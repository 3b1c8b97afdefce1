"""What was measured is reported also where its files cannot be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.limits import files_limited_to

Cli = Callable[..., Any]
MINI = ("--data", "cifar10-mini")


@pytest.mark.parametrize("line", ["evaluate pretrained", "compare pretrained pretrained"])
def test_a_full_disk_costs_the_files_but_not_the_figures(cli: Cli, line: str) -> None:
    with files_limited_to(50):
        outcome = cli(*line.split(), *MINI, "--output", "report", "--json")
    assert outcome.code == 7
    assert "cannot write report/report.json" in outcome.err
    document = json.loads(outcome.out)
    assert document["command"] == line.split()[0]
    assert document["files"] == []
    assert list(Path("report").iterdir()) == []


def test_a_run_whose_report_cannot_be_written_shows_its_table(cli: Cli) -> None:
    quick = (*MINI, "--epochs", "1", "--limit-train", "64", "--batch-size", "32", "--name", "r")
    assert cli("train", *quick).code == 0
    for file in Path("runs/r/report").iterdir():
        file.unlink()
    Path("runs/r/report").rmdir()
    Path("runs/r/report").touch()
    outcome = cli("train", "--resume", "runs/r")
    assert outcome.code == 7
    assert "cannot write runs/r/report" in outcome.err
    assert "Classes, worst first" in outcome.out
