"""The packaged weights on the command line: what is taken where no checkpoint is given, and what it is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnetcli.checkpoints.packaged import read_about
from resnetcli.cli.runs import complete_checkpoint, complete_run

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def picture(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "skyblue").save(tmp_path / "sky.png")


def test_predict_takes_the_packaged_weights_and_says_how_good_they_are(cli: Cli) -> None:
    outcome = cli("predict", "sky.png")
    top1 = read_about("pretrained").metrics["test_top1"]
    assert outcome.code == 0
    assert "no checkpoint" not in outcome.err
    assert f"1 picture classified with pretrained (test top-1 {100 * top1:.2f} %)" in outcome.out
    document = json.loads(cli("predict", "sky.png", "--json").out)
    assert (document["checkpoint"], document["test_top1"]) == ("pretrained", top1)
    assert cli("predict", "sky.png", "--checkpoint", "pretrained").out == outcome.out


def test_what_is_exported_is_stronger_than_the_default(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETCLI_CHECKPOINT", "nowhere")
    assert cli("predict", "sky.png").code == 4


def test_inspect_describes_the_packaged_weights_or_the_variant_that_is_named(cli: Cli) -> None:
    document = json.loads(cli("inspect", "--json").out)
    assert document["checkpoint"]["path"] == "pretrained"
    assert document["checkpoint"]["metrics"]["test_top1"] == read_about("pretrained").metrics["test_top1"]
    bare = json.loads(cli("inspect", "--shortcut", "projection", "--json").out)
    assert (bare["checkpoint"], bare["parameters"]) == (None, 14_728_266)
    shown = cli("inspect", "--depth", "1").out
    assert "weights that come with resnetcli" in shown
    assert "rounded" in shown


def test_of_variant_and_checkpoint_the_one_that_was_typed_counts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETCLI_SHORTCUT", "projection")
    assert json.loads(cli("inspect", "pretrained", "--json").out)["checkpoint"]["path"] == "pretrained"
    assert json.loads(cli("inspect", "--json").out)["shortcut"] == "projection"
    monkeypatch.setenv("RESNETCLI_CHECKPOINT", "nowhere")
    assert json.loads(cli("inspect", "--shortcut", "identity", "--json").out)["checkpoint"] is None


def test_the_name_completes_where_a_checkpoint_goes_and_not_where_a_run_goes(tmp_path: Path) -> None:
    (tmp_path / "runs" / "pre-1" / "checkpoints").mkdir(parents=True)
    assert complete_checkpoint("") == ["pretrained", "runs/pre-1"]
    assert complete_checkpoint("pre") == ["pretrained"]
    assert complete_checkpoint("runs/") == complete_run("runs/") == ["runs/pre-1"]
    assert complete_run("pre") == []


def test_an_export_says_by_how_much_it_rounded(cli: Cli) -> None:
    assert "rounded" not in cli("checkpoints", "export", "pretrained", "a.safetensors", "--dtype", "bf16").err
    outcome = cli("checkpoints", "show", "a.safetensors")
    assert "to bf16 when it was stored; largest error of a weight" in outcome.out
    (document,) = json.loads(cli("checkpoints", "show", "a.safetensors", "--json").out)["checkpoints"]
    assert document["rounded_to"] == "bf16"
    assert 0 < document["rounding_error"] < 0.1
