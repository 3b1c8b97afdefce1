"""A processor that emulates bf16: every command that is asked for it refuses with the ratio, before any work."""

import shutil

import pytest
from PIL import Image

from resnetcli.services import machine
from tests.small import small_network

TRAIN = ("train", "--data", "cifar10-mini", "--limit-train", "8", "--epochs", "1", "--name", "a")
COMMANDS = [
    TRAIN,
    (*TRAIN, "--dry-run"),
    ("evaluate", "--data", "cifar10-mini"),
    ("compare", "pretrained", "pretrained", "--data", "cifar10-mini"),
    ("predict", "."),
    ("bench", "train"),
    ("bench", "infer"),
]


@pytest.fixture(autouse=True)
def emulating(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "measure_bf16_gain", lambda: 1 / 40)


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (32, 32), (90, 120, 200)).save(tmp_path / "sky.png")
    return "sky.png"


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_it_is_refused_with_the_ratio_and_what_to_say_instead(cli, argv, tmp_path):
    outcome = cli(*argv, "--precision", "bf16")
    assert outcome.code == 2
    assert "bf16 is about 40 times slower than fp32 on this processor" in outcome.err
    assert "--precision fp32" in outcome.err
    assert "--allow-slow" in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "runs").exists()


def test_what_is_allowed_all_the_same_is_done(cli, picture):
    outcome = cli("predict", picture, "--precision", "bf16", "--allow-slow", "--format", "json")
    assert outcome.code == 0
    assert '"precision": "bf16"' in outcome.out


def test_auto_takes_fp32_there(cli, picture):
    assert '"precision": "fp32"' in cli("predict", picture, "--precision", "auto", "--format", "json").out


def test_a_bf16_run_of_another_machine_is_refused_too_when_it_goes_on_or_is_replayed(cli, tmp_path, monkeypatch):
    with small_network():
        run = (*TRAIN, "--batch-size", "4", "--save-every", "0", "--keep-last", "5", "--precision", "bf16")
        monkeypatch.setattr(machine, "measure_bf16_gain", lambda: 1.0)
        assert cli(*run).code == 0
        shutil.rmtree(tmp_path / "cache")
        monkeypatch.setattr(machine, "measure_bf16_gain", lambda: 1 / 40)
        for argv in (("train", "--resume", "runs/a"), ("checkpoints", "verify", "runs/a", "--replay")):
            outcome = cli(*argv)
            assert outcome.code == 2
            assert "bf16 is about 40 times slower than fp32" in outcome.err
            assert "a resumed run keeps its precision" in outcome.err
            assert cli(*argv, "--allow-slow").code == 0
