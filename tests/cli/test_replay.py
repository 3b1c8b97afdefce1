"""`checkpoints verify --replay` from the command line to its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnetcli.checkpoints.manager import newest_intact
from tests.services.conftest import network_of_test, run  # noqa: F401  # fixtures
from tests.services.test_replay import copy, rewrite  # noqa: F401

Cli = Callable[..., Any]


def test_a_run_that_comes_out_again_is_exit_0_and_one_that_does_not_exit_4(cli: Cli, copy: Path) -> None:  # noqa: F811
    outcome = cli("checkpoints", "verify", str(copy), "--replay", "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert document["command"] == "checkpoints verify"
    assert document["replay"]["equal"] is True
    assert len(document["checkpoints"]) == 3
    folder, snapshot = newest_intact(copy)
    snapshot.model["head.bias"][0] += 1
    rewrite(folder, snapshot)
    outcome = cli("checkpoints", "verify", str(copy), "--replay", "--steps", "4")
    assert outcome.code == 4
    assert "head.bias" in outcome.out
    assert "Replaying" in outcome.err


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("verify x --steps 4", 2, "--steps belongs to --replay"),
        ("verify x --replay --stps 4", 2, "did you mean --steps?"),
        ("verify x --replay --steps 0", 2, "--steps 0: must be"),
        ("verify x --replay --device gpu", 2, "--device gpu: "),
        ("verify x --replay", 4, "x: no such checkpoint"),
        ("verify . --replay", 4, ".: not a run directory"),
    ],
)
def test_what_a_replay_cannot_do(cli: Cli, line: str, code: int, message: str) -> None:
    outcome = cli("checkpoints", *line.split())
    assert (outcome.code, message in outcome.err) == (code, True), outcome.err
