"""A replay finds what it should: nothing where a run is as it was, and the part where it is not."""

import shutil
import signal

import pytest
import torch

from resnetcli.checkpoints.format import MANIFEST_FILE, MODEL_FILE, TRAINER_FILE, encode, manifest_for
from resnetcli.checkpoints.manager import newest_intact, step_folders
from resnetcli.config.commands import ReplayConfig
from resnetcli.errors import CheckpointError, Interrupted, UsageError
from resnetcli.events import Progress, StepDone, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.services.replay import replay
from resnetcli.services.train import train
from tests.services.runs import short_config, short_run

ALL = ReplayConfig()


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def parts(result):
    return {part.name: part.different for part in result.parts}


def rewrite(folder, snapshot):
    """The checkpoint as if it had been saved with these contents."""
    files = {
        MODEL_FILE: encode(snapshot.model, snapshot.header),
        TRAINER_FILE: encode(snapshot.trainer, snapshot.position),
    }
    for name, data in {**files, MANIFEST_FILE: manifest_for(files)}.items():
        (folder / name).write_bytes(data)


def test_an_epoch_comes_out_bit_for_bit_and_the_run_is_left_alone(run):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    events = []
    result = replay(run, ALL, on_event=events.append)
    assert (result.from_step, result.to_step, result.equal) == (4, 8, True)
    assert parts(result) == dict.fromkeys(
        ("weights", "optimiser state", "fast weights", "random numbers", "losses of the epoch", "figures of epochs"), 0
    )
    assert next(p for p in result.parts if p.name == "figures of epochs").count == 7
    assert result.recorded_sha256 == result.replayed_sha256
    assert result.changed == ()
    assert [e.done for e in events if isinstance(e, Progress)][-1] == 4
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("part", ["weights", "optimiser state", "fast weights", "figures of epochs"])
def test_one_altered_number_is_found_and_named(copy, part):
    folder, snapshot = newest_intact(copy)
    if part == "weights":
        snapshot.model["head.bias"][3] += 1e-3
    elif part == "figures of epochs":
        rows = [
            row.model_copy(update={"val_loss": 1.0}) if row.epoch == 2 else row for row in snapshot.position.history
        ]
        object.__setattr__(snapshot, "position", snapshot.position.model_copy(update={"history": tuple(rows)}))
    else:
        prefix = "optimizer/" if part == "optimiser state" else "fast/"
        name = next(k for k in snapshot.trainer if k.startswith(prefix))
        snapshot.trainer[name].view(-1)[0] += 1e-3
    rewrite(folder, snapshot)
    result = replay(copy, ALL, on_event=ignore)
    assert not result.equal
    assert {name: count for name, count in parts(result).items() if count} == {part: 1}
    assert next(p for p in result.parts if p.name == part).max_difference > 0


def test_a_step_inside_an_epoch_is_replayed_from_the_one_before(tmp_path):
    short_run(
        tmp_path, name="r", epochs=1, save_every=0.0, keep_last=3, limit_train=48, mixup=0.5, ema=0.9, lookahead=0
    )
    assert [p.name for p in step_folders(tmp_path / "r")] == [f"step-{n:07d}" for n in (1, 2, 3)]
    shutil.rmtree(tmp_path / "r" / "checkpoints" / "step-0000003")
    result = replay(tmp_path / "r", ALL, on_event=ignore)
    assert (result.from_step, result.to_step, result.equal) == (1, 2, True)
    assert "figures of epochs" not in parts(result)


def test_steps_choose_checkpoints_that_lie_near_each_other(copy):
    shutil.rmtree(copy / "checkpoints" / "step-0000004")
    with pytest.raises(UsageError, match="at least 8 steps apart") as caught:
        replay(copy, ReplayConfig(steps=4), on_event=ignore)
    assert caught.value.hint == "--steps 8"
    assert replay(copy, ReplayConfig(steps=8), on_event=ignore).equal


def test_there_must_be_two_intact_checkpoints(copy):
    for name in ("step-0000000", "step-0000008"):
        (copy / "checkpoints" / name / MODEL_FILE).write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="there are 1"):
        replay(copy, ALL, on_event=ignore)


def test_another_machine_is_named(copy):
    folder, snapshot = newest_intact(copy)
    versions = {**snapshot.position.versions, "threads": "7"}
    object.__setattr__(snapshot, "position", snapshot.position.model_copy(update={"versions": versions}))
    rewrite(folder, snapshot)
    result = replay(copy, ALL, on_event=ignore)
    assert [(c.name, c.recorded, c.here) for c in result.changed] == [("threads", "7", str(torch.get_num_threads()))]
    assert result.equal


def test_a_run_that_was_stopped_while_it_validated_is_replayed_to_there(tmp_path):
    stop = StopRequest()

    def at_the_last_step(event):
        if isinstance(event, StepDone) and event.step == 3:
            stop.signum = signal.SIGINT

    config = short_config(tmp_path, name="r", epochs=1, save_every=0.0, limit_train=48)
    with pytest.raises(Interrupted):
        train(config, stop=stop, on_event=at_the_last_step)
    _, snapshot = newest_intact(tmp_path / "r")
    assert (snapshot.position.epoch, snapshot.position.step) == (0, 3)
    result = replay(tmp_path / "r", ALL, on_event=ignore)
    assert (result.from_step, result.to_step, result.equal) == (2, 3, True)
    assert "figures of epochs" not in parts(result)
