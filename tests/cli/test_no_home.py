"""A user who is a number only, without HOME: so do containers run. No cache is no error where nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnetcli.data import cifar10
from tests.small import small_network

Cli = Callable[..., Any]


def newer(name: str) -> str:
    raise RuntimeError("could not determine the home directory")


@pytest.fixture(autouse=True, params=[newer, lambda name: f"~/.cache/{name}"], ids=["refuses", "tilde"])
def homeless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As newer and older versions of platformdirs answer there."""
    monkeypatch.setattr(cifar10, "user_cache_dir", request.param)


TRAIN = ("train", "--data", "cifar10-mini", "--limit-train", "8", "--epochs", "1", "--batch-size", "8", "--name", "a")


def test_a_run_on_the_packaged_sample_needs_none(cli: Cli, tmp_path: Path) -> None:
    with small_network():
        outcome = cli(*TRAIN, "--precision", "auto", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["command"] == "train"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


@pytest.mark.parametrize("line", ["data verify", "data download", "data show", "train --name b", "evaluate"])
def test_where_cifar10_is_kept_the_option_that_names_a_folder_is_named(cli: Cli, tmp_path: Path, line: str) -> None:
    outcome = cli(*line.split())
    assert outcome.code == 7
    assert "no home folder" in outcome.err
    assert "--cache-dir" in outcome.err
    assert list(tmp_path.rglob("*~*")) == []
