"""`compare` from the command line to its report, with two networks that were never trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from resnetcli.cli import compare
from resnetcli.results.compare import CompareResult
from tests.foreign import lived_in

Cli = Callable[..., Any]
MINI = ("--data", "cifar10-mini")


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path) -> None:
    for name, seed in (("a.ckpt", 0), ("b.ckpt", 1)):
        torch.save(lived_in("identity", seed).state_dict(), tmp_path / name)


def test_json_is_the_whole_result_and_output_writes_it_with_all_differences(cli: Cli) -> None:
    outcome = cli("compare", "a.ckpt", "b.ckpt", *MINI, "--json", "--output", "report", "--show", "1")
    assert outcome.code == 0
    result = CompareResult.model_validate_json(outcome.out)
    assert (result.schema_version, result.command) == (2, "compare")
    assert result.files == ("report/report.json", "report/differences.csv")
    document = json.loads(outcome.out)
    assert document.keys() == CompareResult.model_fields.keys()
    assert json.loads(Path("report/report.json").read_text()) == document | {"files": []}
    rows = list(csv.DictReader(Path("report/differences.csv").read_text().splitlines()))
    assert len(rows) == len(document["differences"]) > 100
    again = cli("compare", "a.ckpt", "b.ckpt", *MINI, "--output", "report")
    assert (again.code, "nothing is overwritten" in again.err) == (2, True)


def test_the_table_goes_to_stdout_and_what_had_to_be_assumed_to_stderr(cli: Cli) -> None:
    outcome = cli("compare", "a.ckpt", "b.ckpt", *MINI, "--show", "2")
    assert outcome.code == 0
    assert outcome.out.startswith(("A is better", "B is better", "No difference"))
    assert "the first 2 of" in outcome.out
    assert outcome.err.count("CIFAR-10 classes and normalisation assumed") == 2


def test_a_checkpoint_beside_itself_has_nothing_that_differs(cli: Cli) -> None:
    outcome = cli("compare", "a.ckpt", "a.ckpt", *MINI)
    assert outcome.out.startswith("No difference: A and B give the same answer to all 500 images.")
    assert "p = 1.00" in outcome.out
    assert "Images with different answers" not in outcome.out


def test_a_checkpoint_that_stands_for_no_data_set_and_no_validation_split_is_a_usage_error(cli: Cli) -> None:
    outcome = cli("compare", "a.ckpt", "b.ckpt", *MINI, "--split", "val", "--json")
    assert outcome.code == json.loads(outcome.out)["error"]["exit_code"] == 2


def test_both_arguments_complete_to_runs(tmp_path: Path) -> None:
    (tmp_path / "runs" / "fast-1" / "checkpoints").mkdir(parents=True)
    command = get_command(compare.app)
    for name in ("checkpoint_a", "checkpoint_b"):
        param = next(p for p in command.params if p.name == name)
        found = param.shell_complete(command.make_context("compare", [], resilient_parsing=True), "runs/")
        assert [item.value for item in found] == ["runs/fast-1"]
