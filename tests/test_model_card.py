"""The model card says what the packaged file is and what was measured with it, and nothing else."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from resnetcli.checkpoints import packaged
from resnetcli.checkpoints.format import ModelHeader, entry_for, read_own_header
from resnetcli.checkpoints.packaged import FOLDER, packaged_file, read_about
from resnetcli.checkpoints.portable import settings
from resnetcli.checkpoints.reading import open_checkpoint
from resnetcli.config.base import PRETRAINED
from resnetcli.config.train import TrainConfig
from resnetcli.metrics import wilson
from resnetcli.results.checkpoints import Ancestor
from resnetcli.results.evaluate import Scores
from resnetcli.services.checkpoints import NORMALIZATION


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parent.parent / "examples" / "model_card.py"
    spec = importlib.util.spec_from_file_location("model_card", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def card() -> str:
    return (FOLDER / f"{PRETRAINED}.md").read_text("utf-8")


def test_the_card_is_what_its_script_makes_of_the_file_and_of_the_measurements(script: ModuleType) -> None:
    script.check()


def test_the_card_states_digest_size_accuracy_and_interval_of_the_file(card: str) -> None:
    entry = entry_for(packaged_file(PRETRAINED))
    assert f"`{entry.sha256}`" in card
    assert f"{entry.size:,} bytes" in card
    scores = Scores.model_validate(read_about(PRETRAINED).card["evaluation"]["scores"])
    top1 = wilson(sum(scores.confusion[i][i] for i in range(10)), 10_000)
    assert f"**{100 * top1.value:.2f} % ({100 * top1.low:.2f}–{100 * top1.high:.2f} %)**" in card
    for score in scores.classes:
        assert f"| {score.name} | {100 * score.accuracy.value:.2f} % | {100 * score.accuracy.low:.2f}–" in card
    assert open_checkpoint(PRETRAINED, NORMALIZATION).header.metrics["test_top1"] == top1.value


def test_the_command_on_the_card_has_the_settings_of_the_header(script: ModuleType, card: str) -> None:
    header = read_own_header(packaged_file(PRETRAINED), ModelHeader)
    line = script.command(header.config)
    assert f"```\n{line}\n```" in card
    words = shlex.split(line)
    assert words[:2] == ["resnetcli", "train"]
    for flag, value in zip(words[2:], [*words[3:], ""], strict=True):
        if flag.startswith("--") and not value.startswith("--") and value:
            assert str(header.config[flag[2:].replace("-", "_")]) == value


def test_a_command_names_what_neither_recipe_nor_defaults_say(script: ModuleType) -> None:
    usual = TrainConfig(recipe="seed").model_dump(mode="json")
    changed = {"recipe": "seed", "flip": False, "lr": 0.25, "device": "cuda:1", "init": "a.ckpt", "limit_train": None}
    line = script.command({**usual, **script.read_recipe("seed").values, **changed})
    assert line.startswith("resnetcli train --recipe seed ")
    assert set(line.split(" --")[2:]) == {"no-flip", "lr 0.25", "device cuda:1", "init a.ckpt"}


def test_the_card_tells_by_digest_and_command_what_training_started_from(script: ModuleType) -> None:
    header = read_own_header(packaged_file(PRETRAINED), ModelHeader)
    config = {**TrainConfig(recipe="seed").model_dump(mode="json"), **script.read_recipe("seed").values, "lr": 0.25}
    lineage = (
        Ancestor(name="pretrained", sha256="89ab" * 16, epoch=3, config=settings(config)),
        Ancestor(name="old.ckpt", sha256="cdef" * 16),
    )
    text = script._training(header.model_copy(update={"lineage": lineage}), None)
    told = text[text.index("It started from") : text.index("All settings")]
    first, _, second = told.partition("\n```\nresnetcli train --recipe seed --lr 0.25\n```\n")
    assert "`pretrained`" in first
    assert "89ab" * 16 in first
    assert "epoch 3 of this" in " ".join(first.split())
    assert " ".join(second.split()) == f"It started from weights then called `old.ckpt` (sha256 `{'cdef' * 16}`)."


@pytest.mark.cifar10
@pytest.mark.full
def test_the_script_measures_anew_what_the_card_says(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "weights")
    stated = read_about(PRETRAINED)
    for module in (packaged, script):
        monkeypatch.setattr(module, "FOLDER", folder)
    script.measure(None)
    script.check()
    measured = read_about(PRETRAINED)
    assert stated.calibration is not None
    assert measured.calibration is not None
    assert measured.calibration.temperature == stated.calibration.temperature
    assert measured.calibration.gain == pytest.approx(stated.calibration.gain, abs=1e-4)
    assert measured.calibration.gain_error == pytest.approx(stated.calibration.gain_error, abs=1e-4)
    assert measured.metrics == pytest.approx(stated.metrics, abs=1e-3)
    assert measured.card["evaluation"]["temperature"] is None  # type: ignore[index]


@pytest.mark.parametrize("what", ["weights", "measurements", "card"])
def test_a_change_of_any_of_the_three_files_is_found(
    what: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "weights")
    for module in (packaged, script):
        monkeypatch.setattr(module, "FOLDER", folder)
    script.check()
    if what == "weights":
        data = bytearray((folder / "pretrained.safetensors").read_bytes())
        data[-9] ^= 1
        (folder / "pretrained.safetensors").write_bytes(data)
    else:
        path = folder / ("pretrained.json" if what == "measurements" else "pretrained.md")
        figure = '"nll": ' if what == "measurements" else "NLL "
        text = path.read_text("utf-8")
        assert figure in text
        path.write_text(text.replace(figure, f"{figure}1", 1), "utf-8")
    with pytest.raises(SystemExit, match=r"run examples/model_card\.py"):
        script.check()
