"""What may stand where a checkpoint is wanted, and what is said of what may not."""

import os

import pytest
import torch

from resnetcli.checkpoints.format import encode, read_header, verify_file
from resnetcli.checkpoints.manager import CheckpointManager, best_first, read_best
from resnetcli.checkpoints.reading import describe, open_checkpoint
from resnetcli.errors import CheckpointError
from tests.checkpoints.samples import NORMALIZATION, damage, snapshot


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    manager = CheckpointManager(folder, 3)
    manager.save(snapshot(1, 0.5))
    manager.save(snapshot(2, 0.9))
    return folder


def opened(path):
    return open_checkpoint(str(path), NORMALIZATION)


def test_a_run_stands_for_its_best_which_val_has_chosen(run):
    checkpoint = opened(run)
    assert (checkpoint.kind, checkpoint.path.name) == ("run", "step-0000002")
    assert (checkpoint.header.chosen_by, checkpoint.passed_over) == ("val", ())
    assert describe(checkpoint.path, checkpoint.kind, checkpoint.header).best


def test_a_run_that_was_never_validated_stands_for_its_newest(tmp_path):
    CheckpointManager(tmp_path, 3).save(snapshot(7))
    assert opened(tmp_path).header.chosen_by == "none"


def test_a_damaged_best_is_passed_over_and_named(run):
    damage(best_first(run)[0] / "model.safetensors", "flip")
    checkpoint = opened(run)
    assert checkpoint.path.name == "step-0000001"
    assert "step-0000002" in checkpoint.passed_over[0]


def test_a_run_without_an_intact_checkpoint_says_why(run):
    for folder in best_first(run):
        damage(folder / "model.safetensors", "cut")
    with pytest.raises(CheckpointError, match=r"no checkpoint to use \(.*step-0000002.*step-0000001"):
        read_best(run)


def test_a_portable_file_is_read_and_described_with_its_own_header(run):
    out = run.parent / "out.safetensors"
    header = snapshot(2, 0.9).header
    out.write_bytes(encode({"w": torch.ones(3)}, header))
    checkpoint = opened(out)
    assert (checkpoint.kind, checkpoint.header) == ("portable", header)
    info = describe(out, checkpoint.kind, header)
    assert (info.step, info.metrics) == (2, {"val_top1": 0.9})
    assert [(file.name, file.size) for file in info.files] == [("out.safetensors", out.stat().st_size)]


def test_what_a_checkpoint_folder_holds_is_listed_with_its_digests(run):
    info = describe(best_first(run)[0], "checkpoint", snapshot(2).header)
    assert sorted(file.name for file in info.files) == ["model.safetensors", "trainer.safetensors"]
    assert all(len(file.sha256) == 64 for file in info.files)


def test_a_name_that_is_none_gets_the_runs_that_are_there(run):
    with pytest.raises(CheckpointError, match="no such checkpoint") as caught:
        opened(run.with_name("typo"))
    assert caught.value.hint == f"there are {run}"
    with pytest.raises(CheckpointError) as caught:
        opened(run / "nowhere" / "at" / "all")
    assert "resnetcli train" in caught.value.hint


@pytest.mark.parametrize("what", ["an empty folder", "a pipe"])
def test_what_is_neither_a_file_nor_a_run_is_refused_without_reading_it(tmp_path, what):
    path = tmp_path / "x"
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(CheckpointError, match="x: neither"):
        opened(path)


@pytest.mark.parametrize("read", [read_header, lambda path: verify_file(path, None)], ids=["header", "digest"])
def test_a_file_that_cannot_be_read_is_an_error_with_the_systems_reason(tmp_path, read):
    with pytest.raises(CheckpointError, match=r"gone: cannot be read \(No such file or directory\)"):
        read(tmp_path / "gone")
