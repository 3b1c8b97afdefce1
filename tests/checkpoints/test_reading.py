"""What may stand where a checkpoint is wanted, and what is said of what may not."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch

from resnetcli.checkpoints.format import encode, entry_for, read_header
from resnetcli.checkpoints.manager import CheckpointManager, best_first, read_best
from resnetcli.checkpoints.reading import describe, describe_open, lineage_from, measured_on_test, open_checkpoint
from resnetcli.errors import CheckpointError
from resnetcli.results.checkpoints import MAX_GENERATIONS, Ancestor
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


PARENT = {
    "data": "cifar10",
    "val_fraction": 0.1,
    "split_seed": 3,
    "recipe": "fast",
    "config": {"lr": 1.0, "init": None},
}


def test_weights_are_the_first_of_the_lineage_of_what_starts_from_them(run):
    older = Ancestor(name="first", sha256="0f" * 32)
    header = snapshot(2, 0.9).header.model_copy(update={**PARENT, "lineage": (older,)})
    file = run.parent / "out.safetensors"
    file.write_bytes(encode({"w": torch.ones(3)}, header))
    parent, grandparent = lineage_from(opened(file), str(file))
    assert (parent.name, parent.sha256) == ("out.safetensors", entry_for(file).sha256)
    assert {name: getattr(parent, name) for name in PARENT} == PARENT
    assert parent.step == 2
    assert grandparent == older


def test_a_run_in_a_lineage_has_its_own_name_and_the_digest_of_its_best_weights(run, monkeypatch):
    digest = entry_for(best_first(run)[0] / "model.safetensors").sha256
    monkeypatch.chdir(run)
    for named in (str(run), "."):
        (parent,) = lineage_from(opened(named), named)
        assert (parent.name, parent.sha256) == ("r", digest)


def test_places_on_a_machine_are_not_handed_down(run):
    config = {"output_dir": "/home/me/runs", "init": "/home/me/start.ckpt", "lr": 0.1, "odd": [1]}
    checkpoint = opened(run)
    header = checkpoint.header.model_copy(update={"config": config})
    assert lineage_from(replace(checkpoint, header=header), "r")[0].config == {"init": "start.ckpt", "lr": 0.1}


def test_a_lineage_ends_after_so_many_generations_and_tells_that_there_were_more(run):
    of = Ancestor(name="x", sha256="0f" * 32, config={"init": "y"})
    first = of.model_copy(update={"config": {"init": None}})
    checkpoint = opened(run)
    header = checkpoint.header.model_copy(update={"lineage": (of,) * (MAX_GENERATIONS - 1) + (first,)})
    lineage = lineage_from(replace(checkpoint, header=header), "r")
    assert len(lineage) == MAX_GENERATIONS
    assert lineage[-1].config == {"init": "y"}


@pytest.mark.parametrize("config", [{"x" * 2000: 1}, {"epochs": "x" * 2000}, {str(n): n for n in range(201)}])
def test_nothing_is_handed_down_that_no_reader_would_take(run, config):
    checkpoint = opened(run)
    header = checkpoint.header.model_copy(update={"config": config})
    with pytest.raises(CheckpointError, match="holds what no run of ours has written"):
        lineage_from(replace(checkpoint, header=header), "r")


GOOD: dict[str, Any] = {"name": "a", "sha256": "0f" * 32}


@pytest.mark.parametrize(
    "lineage",
    [
        [GOOD] * (MAX_GENERATIONS + 1),
        [{**GOOD, "sha256": "0f"}],
        [{**GOOD, "name": "x" * 2000}],
        [{**GOOD, "config": {"lr": {"a": 1}}}],
        [{**GOOD, "config": {str(n): n for n in range(201)}}],
        [{**GOOD, "epoch": -1}],
        [{**GOOD, "val_fraction": 2}],
        [{**GOOD, "surprise": 1}],
    ],
)
def test_a_lineage_that_no_run_has_is_refused(tmp_path, lineage):
    header = json.loads(snapshot(2).header.model_dump_json()) | {"lineage": lineage}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {"resnetcli": json.dumps(header)}))
    with pytest.raises(CheckpointError, match="damaged header"):
        opened(path)


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


@pytest.mark.parametrize("read", [read_header, entry_for], ids=["header", "digest"])
def test_a_file_that_cannot_be_read_is_an_error_with_the_systems_reason(tmp_path, read):
    with pytest.raises(CheckpointError, match=r"gone: cannot be read \(No such file or directory\)"):
        read(tmp_path / "gone")


def report_of(run, document):
    (run / "report").mkdir(exist_ok=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (run / "report" / "report.json").write_text(text)


REPORT = {"checkpoint": "runs/r/checkpoints/step-0000002", "scores": {"top1": {"value": 0.75}}}


def test_a_checkpoint_is_described_with_its_place_in_its_run_and_what_the_test_images_gave(run):
    report_of(run, REPORT | {"protocol": {"split": "test"}})
    older, newer = (run / "checkpoints" / f"step-000000{step}" for step in (1, 2))
    of_run, of_newer, of_older = (describe_open(opened(path)) for path in (run, newer, older))
    assert (of_run.best, of_run.last, of_run.chosen_by, of_run.metrics["test_top1"]) == (True, True, "val", 0.75)
    assert (of_newer.best, of_newer.last, of_newer.metrics["test_top1"]) == (True, True, 0.75)
    assert (of_older.best, of_older.last, of_older.chosen_by) == (False, False, "user")
    assert "test_top1" not in of_older.metrics


def test_what_is_damaged_is_neither_the_best_nor_the_last(run):
    damage(run / "checkpoints" / "step-0000002" / "model.safetensors", "flip")
    info = describe_open(opened(run / "checkpoints" / "step-0000001"))
    assert (info.best, info.last) == (True, True)


def test_a_file_outside_of_a_run_has_no_place_in_one(run, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(encode(snapshot(2).model, snapshot(2).header))
    assert not describe_open(opened(alone)).last


@pytest.mark.parametrize(
    "document",
    [
        REPORT | {"protocol": {"split": "val"}},
        REPORT | {"protocol": {"split": "test"}, "scores": {"top1": {"value": 1.5}}},
        REPORT | {"protocol": {"split": "test"}, "scores": {"top1": {"value": "good"}}},
        REPORT,
        [],
        "{",
        "",
    ],
    ids=repr,
)
def test_a_report_that_says_nothing_of_the_test_images_is_passed_over(run, document):
    report_of(run, document)
    assert measured_on_test(run) == {}
    assert "test_top1" not in describe_open(opened(run)).metrics


def test_a_link_that_leads_to_itself_is_not_called_missing(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError, match="cannot be read"):
        opened(tmp_path / "loop")
