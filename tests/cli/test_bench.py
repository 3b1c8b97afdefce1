"""`resnetcli bench` from the command line, with few images and short turns."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resnetcli.config.commands import BenchTrainConfig
from resnetcli.results.bench import BenchResult
from resnetcli.services import bench
from tests.reporting.examples import bench_result

Cli = Callable[..., Any]
QUICK = ("--rounds", "1", "--seconds", "0.001", "--threads", "1")


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train", "infer"):
        monkeypatch.setattr(bench, name, partial(getattr(bench, name), images=100))
    # tests/services/test_bench.py starts the plain loop, which imports torch anew, for real
    monkeypatch.setattr(bench.turns, "plain_loop", lambda *arguments: nullcontext(lambda seconds: 100.0))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[BenchTrainConfig]:
    """The configs that `bench train` is called with; nothing is measured."""
    configs: list[BenchTrainConfig] = []

    def train(config: BenchTrainConfig, *, on_event: object) -> BenchResult:
        configs.append(config)
        return bench_result()

    monkeypatch.setattr(bench, "train", train)
    return configs


@pytest.mark.parametrize("line", ["train --batch-size 50 --precision fp32", "infer --shortcut projection"])
def test_json_is_one_document_with_every_round(line: str, cli: Cli) -> None:
    outcome = cli("bench", *line.split(), *QUICK, "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert (document["schema_version"], document["command"]) == (2, f"bench {line.split()[0]}")
    assert BenchResult.model_validate_json(outcome.out).model_dump(mode="json") == document
    assert [len(document[name]["rounds"]) for name in ("tool", "plain", "matrix", "roof")] == [1] * 4
    assert set(document["machine"]) == {"device", "name", "threads", "precision", "torch"}
    turns = 8 if "train" in line else 6  # smaller images, with which a run begins, have turns of their own
    assert outcome.err.splitlines()[0] == f"Measuring: 0 of {turns} turns"
    assert outcome.err.splitlines()[-1] == f"Measuring: {turns} of {turns} turns"


def test_without_json_it_is_a_report(cli: Cli, asked: list[BenchTrainConfig]) -> None:
    outcome = cli("bench", "train")
    assert outcome.code == 0
    assert "4.28× the plain PyTorch loop" in outcome.out
    assert len(asked) == 1


def test_settings_mean_what_they_mean_in_train(
    cli: Cli, asked: list[BenchTrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("bench", "train")
    assert (asked[-1].recipe, asked[-1].optimizer, asked[-1].batch_size) == ("fast", "muon", 512)
    cli("bench", "train", "--recipe", "seed")
    assert (asked[-1].optimizer, asked[-1].batch_size, asked[-1].padding_mode) == ("adam", 100, "zero")
    (tmp_path / "mine.toml").write_text("batch_size = 64\nflip = false\nrounds = 2\n")
    cli("bench", "train", "--recipe", "seed", "--config", "mine.toml")
    assert (asked[-1].optimizer, asked[-1].batch_size, asked[-1].flip, asked[-1].rounds) == ("adam", 64, False, 2)
    monkeypatch.setenv("RESNETCLI_BATCH_SIZE", "32")
    cli("bench", "train", "--config", "mine.toml")
    assert asked[-1].batch_size == 32
    cli("bench", "train", "--config", "mine.toml", "--batch-size", "16")
    assert asked[-1].batch_size == 16


def test_without_a_subcommand_it_shows_help(cli: Cli) -> None:
    outcome = cli("bench")
    assert "Usage: resnetcli bench" in outcome.out
    assert "infer" in outcome.out


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once(signum: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "resnetcli", "bench", "infer", "--seconds", "3000"]
    # A test run in the background has SIGINT switched off, and so would this process.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heard) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == "Measuring: 0 of 18 turns\n"
        process.send_signal(signum)
        assert process.wait(timeout=60) == code
        assert process.stdout.read() == ""
        assert process.stderr.read() == f"stopped: interrupted by {signum.name}\n"
