import json
import shutil
from pathlib import Path

import pytest
import torch

from resnetcli.checkpoints import packaged
from resnetcli.checkpoints.format import ModelHeader, Normalization, entry_for, read_own_header
from resnetcli.checkpoints.packaged import FOLDER, NAMES, packaged_file, read_about, read_packaged
from resnetcli.checkpoints.reading import check_fit, describe_open, open_checkpoint
from resnetcli.config.base import CLASS_NAMES, PRETRAINED
from resnetcli.errors import CheckpointError
from resnetcli.models.resnet import ResNet
from tests.foreign import lived_in

MAX_BYTES = 20_000_000
FLAT = Normalization(mean=(0, 0, 0), std=(1, 1, 1))


def opened(target):
    return open_checkpoint(target, FLAT)


@pytest.mark.parametrize("name", NAMES)
def test_packaged_weights_open_by_name_complete_and_with_what_was_measured(name):
    checkpoint = opened(name)
    assert (checkpoint.kind, checkpoint.label, checkpoint.path) == ("packaged", name, packaged_file(name))
    weights = check_fit(checkpoint, ResNet(10, checkpoint.header.architecture.shortcut).state_dict())
    assert {t.dtype for t in weights.values()} == {torch.float32, torch.int64}
    assert all(torch.isfinite(t).all() for t in weights.values())
    header = checkpoint.header
    assert (header.class_names, header.data) == (CLASS_NAMES, "cifar10")
    assert header.normalization != FLAT
    assert header.metrics["test_top1"] == read_about(name).metrics["test_top1"]
    assert header.rounded is not None


def test_a_temperature_that_held_out_images_do_not_gain_by_is_left_out_wherever_the_name_is_read():
    stored, judged = (
        read_own_header(packaged_file(PRETRAINED), ModelHeader).calibration,
        read_about(PRETRAINED).calibration,
    )
    assert (judged.temperature, judged.images, judged.split) == (stored.temperature, 1000, "val")
    assert 0 < judged.gain < 2 * judged.gain_error
    checkpoint = opened(PRETRAINED)
    assert checkpoint.header.calibration is None
    assert describe_open(checkpoint).calibration is None


@pytest.mark.parametrize(("gain", "kept"), [(0.1, True), (0.019, False), (None, True)])
def test_what_was_judged_afterwards_takes_the_place_of_what_the_header_says(copy, gain, kept):
    about = read_about(PRETRAINED)
    known = about.calibration.model_copy(update={"gain": gain, "gain_error": gain and 0.01})
    text = about.model_copy(update={"calibration": known}).model_dump_json()
    (copy / "pretrained.json").write_text(text, "utf-8")
    assert opened(PRETRAINED).header.calibration == (known if kept else None)


def test_the_packaged_file_is_small_and_says_nothing_of_the_machine_that_made_it():
    path = packaged_file(PRETRAINED)
    assert entry_for(path) == read_about(PRETRAINED).file
    assert path.stat().st_size < MAX_BYTES
    for text in (
        json.dumps(read_own_header(path, ModelHeader).config),
        (FOLDER / f"{PRETRAINED}.json").read_text("utf-8"),
    ):
        assert '"/' not in text
        assert "output_dir" not in text
        assert "\\\\" not in text


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The packaged files where a test may damage them."""
    folder = shutil.copytree(FOLDER, tmp_path / "weights")
    monkeypatch.setattr(packaged, "FOLDER", folder)
    return folder


def flip(path):
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a flipped bit": lambda f: flip(f / "pretrained.safetensors"),
    "a cut file": lambda f: (f / "pretrained.safetensors").write_bytes(b"short"),
    "no file": lambda f: (f / "pretrained.safetensors").unlink(),
    "no digest": lambda f: (f / "pretrained.json").unlink(),
    "a digest that is none": lambda f: (f / "pretrained.json").write_text("{}"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_packaged_weights_are_an_error_that_asks_to_install_again(copy, kind):
    assert read_packaged(PRETRAINED)[0]
    DAMAGE[kind](copy)
    with pytest.raises(CheckpointError, match=r"the packaged weights are damaged: .*pretrained") as caught:
        opened(PRETRAINED)
    assert "install resnetcli again" in caught.value.hint
    assert "install resnetcli again" not in caught.value.message


def test_the_name_means_the_packaged_weights_whatever_lies_there_and_a_path_means_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(PRETRAINED).mkdir()
    assert opened(PRETRAINED).kind == "packaged"
    for target in (f"./{PRETRAINED}", Path(PRETRAINED), str(tmp_path / PRETRAINED)):
        with pytest.raises(CheckpointError, match="neither a run directory nor a checkpoint directory"):
            opened(target)
    assert opened(PRETRAINED).path.is_absolute()


def test_a_path_that_reads_like_a_name_is_labelled_as_it_must_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(lived_in("identity").state_dict(), PRETRAINED)
    mine = opened(f"./{PRETRAINED}")
    assert (mine.kind, mine.path) == ("foreign", Path(PRETRAINED))
    assert opened(mine.label).kind == "foreign"
    assert describe_open(mine).path == mine.label != PRETRAINED


def test_a_misspelt_name_is_pointed_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for target, meant in (("pretraned", True), ("Pretrained", True), ("runs/fast-1", False)):
        with pytest.raises(CheckpointError, match=f"{target}: no such checkpoint") as caught:
            opened(target)
        assert ("did you mean pretrained" in caught.value.hint) == meant


def test_a_copy_of_the_packaged_file_is_a_portable_file_like_any_other(tmp_path):
    path = shutil.copy(packaged_file(PRETRAINED), tmp_path / "mine.safetensors")
    mine, packed = opened(str(path)), opened(PRETRAINED)
    assert (mine.label, mine.kind) == (str(path), "portable")
    assert mine.weights.keys() == packed.weights.keys()
    assert all(torch.equal(tensor, packed.weights[name]) for name, tensor in mine.weights.items())
