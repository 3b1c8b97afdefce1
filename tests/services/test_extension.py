"""A run that is extended: what its settings then say is what it does, to the bit, however it is interrupted."""

import json
import shutil
import signal

import pytest

from resnetcli.checkpoints.format import to_json
from resnetcli.checkpoints.manager import newest_intact, step_folders
from resnetcli.cli.resolve import Given, resolve_train
from resnetcli.config.base import MAX_EPOCHS
from resnetcli.config.commands import ReplayConfig
from resnetcli.config.extension import MAX_EXTENSIONS, ExtendConfig, Extension
from resnetcli.config.train import TrainConfig
from resnetcli.errors import CheckpointError, Interrupted, RunInUseError, UsageError
from resnetcli.events import CheckpointSaved, Notice, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.services.dry_run import dry_run_extension
from resnetcli.services.extension import announce
from resnetcli.services.replay import replay
from resnetcli.services.train import read_config, resume, train
from tests.services.runs import short_config, short_run
from tests.services.test_train import assert_same_end

MUCH = {"schedule": "cosine", "warmup_epochs": 0.5, "start_size": 24, "augment": "trivial", "momentum": 0.9}


def extend(run, epochs, policy, on_event=ignore, stop=None, **overrides):
    asked = ExtendConfig(epochs=epochs, extend=policy)
    return resume(run, overrides, stop=stop or StopRequest(), on_event=on_event, extend=asked)


def stopping_after(saves):
    """A stop request, and an observer that makes it after so many checkpoints."""
    stop, seen = StopRequest(), []

    def on_event(event):
        seen.extend([event] if isinstance(event, CheckpointSaved) else [])
        if len(seen) >= saves:
            stop.signum = signal.SIGTERM

    return stop, on_event


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from tests.small import small_network

    with small_network():
        return tmp_path_factory.getbasetemp() / short_run(tmp_path_factory.mktemp("f"), name="f", **MUCH).run_dir


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def assert_same_rows(a, b):
    rows = [
        [
            row.model_dump(exclude={"seconds", "images_per_s", "memory_mib"})
            for row in newest_intact(r)[1].position.history
        ]
        for r in (a, b)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("policy", ["stretch", "restart", "constant"])
def test_an_extended_run_ends_byte_equal_however_it_is_interrupted_and_its_config_repeats_it(copy, tmp_path, policy):
    cut = shutil.copytree(copy, tmp_path / "cut")
    result = extend(copy, 4, policy)
    assert (result.epochs, result.steps, result.stopped) == (4, 16, "finished")
    for saves, extension in ((2, ExtendConfig(epochs=4, extend=policy)), (3, None)):
        stop, on_event = stopping_after(saves)
        with pytest.raises(Interrupted):
            resume(cut, {"save_every": 0.0}, stop=stop, on_event=on_event, extend=extension)
    assert newest_intact(cut)[1].position.global_step not in (8, 16)
    resume(cut, {}, stop=StopRequest(), on_event=ignore)
    assert_same_end(copy, cut)
    assert_same_rows(copy, cut)
    assert len((cut / "metrics.csv").read_text().splitlines()) == 5
    config = read_config(copy)
    assert [(e.epoch, e.epochs, e.policy) for e in config.extensions] == [(2, 2, policy)]
    assert newest_intact(copy)[1].header.config["extensions"] == config.model_dump(mode="json")["extensions"]
    train(config.model_copy(update={"name": "again", "output_dir": tmp_path}), stop=StopRequest(), on_event=ignore)
    assert_same_end(copy, tmp_path / "again")
    assert_same_rows(copy, tmp_path / "again")


def test_the_policies_differ_and_a_stretched_run_ends_at_the_rates_of_a_longer_one(finished, tmp_path):
    last = {}
    for policy in ("stretch", "restart", "constant"):
        run = shutil.copytree(finished, tmp_path / policy)
        last[policy] = [row.lr for row in extend(run, 3, policy).history]
    longer = [row.lr for row in short_run(tmp_path, name="longer", **MUCH | {"epochs": 3}).history]
    assert last["stretch"][2] == longer[2]
    assert last["stretch"][:2] == last["restart"][:2] == last["constant"][:2] != longer[:2]
    assert last["constant"][2] == last["constant"][1]
    assert len({rates[2] for rates in last.values()}) == 3


@pytest.mark.parametrize("saves", [2, 4])
def test_a_run_stopped_in_the_middle_is_extended_from_there_and_its_images_stay_small_for_longer(tmp_path, saves):
    """Also from within an epoch, whose images keep their size."""
    stop, on_event = stopping_after(saves)
    with pytest.raises(Interrupted):
        train(short_config(tmp_path, name="r", save_every=0.0, **MUCH), stop=stop, on_event=on_event)
    at = newest_intact(tmp_path / "r")[1].position
    assert 0 < at.step < 4
    cut = shutil.copytree(tmp_path / "r", tmp_path / "cut")
    extend(tmp_path / "r", 3, "stretch")
    stop, on_event = stopping_after(3)
    with pytest.raises(Interrupted):
        extend(cut, 3, "stretch", on_event, stop, save_every=0.0)
    resume(cut, {}, stop=StopRequest(), on_event=ignore)
    assert_same_end(tmp_path / "r", cut)
    again = read_config(cut).model_copy(update={"name": "again", "output_dir": tmp_path})
    train(again, stop=StopRequest(), on_event=ignore)
    assert_same_end(tmp_path / "again", cut)


@pytest.mark.parametrize("gap", [1, 2])
def test_a_replay_goes_across_an_extension(copy, gap):
    extend(copy, 4, "restart", keep_last=5)
    folders = {int(folder.name.removeprefix("step-")): folder for folder in step_folders(copy)}
    for step in folders.keys() - {8 if gap == 1 else 4, 12}:
        shutil.rmtree(folders[step])
    result = replay(copy, ReplayConfig(), on_event=ignore)
    assert (result.from_step, result.to_step, result.equal) == (12 - 4 * gap, 12, True)


def test_an_extension_that_no_step_was_taken_under_makes_room_for_another(copy):
    for policy in ("constant", "stretch"):
        stop = StopRequest()
        stop.signum = signal.SIGTERM
        with pytest.raises(Interrupted):
            extend(copy, 4, policy, stop=stop)
    assert [(e.epoch, e.epochs, e.policy) for e in read_config(copy).extensions] == [(2, 2, "stretch")]
    extend(copy, 3, "stretch")
    extend(copy, 4, "constant")
    assert [(e.epoch, e.epochs, e.policy) for e in read_config(copy).extensions] == [
        (2, 2, "stretch"),
        (3, 3, "constant"),
    ]
    assert replay(copy, ReplayConfig(), on_event=ignore).equal


def test_patience_begins_anew_with_an_extension(tmp_path):
    hopeless = {"lr": 1e-9, "lookahead": 0, "epochs": 4, "patience": 1}
    assert short_run(tmp_path, name="r", **hopeless).stopped == "patience"
    done = newest_intact(tmp_path / "r")[1].position.epoch
    assert done < 4
    result = extend(tmp_path / "r", 9, "constant")
    assert result.stopped == "patience"
    assert done < result.epochs < 9


REFUSED = [
    (2, "stretch", {}, "--epochs 2: .* has done 2 epochs; it is the number for the whole run"),
    (1, "restart", {}, "--epochs 1: .* has done 2 epochs"),
    (3, "restart", {"warmup_epochs": 2.0}, "the warm-up of 2 epochs is longer than the 1"),
]


@pytest.mark.parametrize(("epochs", "policy", "changes", "message"), REFUSED)
def test_what_cannot_be_extended_is_refused_and_left_alone(copy, epochs, policy, changes, message):
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(config))
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UsageError, match=message):
        extend(copy, epochs, policy)
    with pytest.raises(UsageError, match=message):
        dry_run_extension(copy, {}, ExtendConfig(epochs=epochs, extend=policy), on_event=ignore)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_a_number_that_is_planned_already_is_refused(tmp_path):
    stop, on_event = stopping_after(2)
    with pytest.raises(Interrupted):
        train(short_config(tmp_path, name="r", save_every=0.0), stop=stop, on_event=on_event)
    with pytest.raises(UsageError, match="is planned for 2 epochs already"):
        extend(tmp_path / "r", 2, "stretch")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 5}, "epochs"),
        ({"extensions": []}, "extensions"),
        ({"extensions": [{"epoch": 1, "step": 0, "epochs": 2, "policy": "stretch"}]}, "extensions"),
        ({"extensions": [{"epoch": 2, "step": 0, "epochs": 3, "policy": "stretch"}]}, "extensions"),
    ],
)
def test_an_extension_that_was_written_by_hand_does_not_pass_for_what_was_trained(copy, changes, named):
    extend(copy, 4, "restart")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=f"config.json says {named} "):
        resume(copy, {}, stop=StopRequest(), on_event=ignore)


def test_the_start_shows_the_rates_before_and_after_and_says_where_they_are_next_to_nothing(copy):
    events = []
    extend(copy, 3, "constant", events.append)
    said = [e.text for e in events if isinstance(e, Notice)]
    assert any(
        text.startswith(
            "extended from 2 to 3 epochs (constant); learning rate by epoch, first to last step: 1: 0.01 to"
        )
        and "from now on 3: " in text
        for text in said
    ), said


@pytest.mark.parametrize(
    ("schedule", "policy", "warned"),
    [("linear", "constant", True), ("step", "constant", False), ("linear", "restart", False)],
)
def test_a_rate_of_next_to_nothing_that_is_to_stay_is_warned_of(schedule, policy, warned):
    extension = Extension(epoch=10, step=0, epochs=10, policy=policy)
    config = TrainConfig(epochs=30, lr=0.1, schedule=schedule, extensions=(extension,))
    notices = list(announce(config, 50))
    assert [n.text for n in notices if n.warning] == warned * [
        "the learning rate stays at 0.0002, 0.2 % of the peak, which changes little: "
        "--extend stretch and restart take higher ones"
    ]
    assert "from now on 11: " in notices[0].text
    assert ", …, 30: " in notices[0].text


def test_a_dry_run_shows_the_same_and_leaves_the_run_alone(copy):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    shown = dry_run_extension(copy, {"threads": 1}, ExtendConfig(epochs=4, extend="restart"), on_event=ignore)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before
    assert [(r.epoch, r.extended) for r in shown.rates] == [(1, False), (2, False), (3, True), (4, True)]
    assert (shown.steps, shown.origins["epochs"], shown.origins["lr"], shown.origins["threads"]) == (
        8,
        "flag",
        "run",
        "flag",
    )
    assert shown.config["epochs"] == 4
    result = extend(copy, 4, "restart", threads=1)
    assert [row.lr for row in result.history] == [rate.last for rate in shown.rates]


def test_an_old_config_without_extensions_still_loads():
    config = TrainConfig().model_dump(mode="json")
    del config["extensions"]
    assert TrainConfig.model_validate(config) == TrainConfig()


def test_a_run_that_is_running_cannot_be_previewed(copy):
    from resnetcli.checkpoints.locks import RunLock

    with RunLock(copy), pytest.raises(RunInUseError):
        dry_run_extension(copy, {}, ExtendConfig(epochs=4, extend="restart"), on_event=ignore)


def test_the_settings_of_a_run_that_was_extended_most_often_can_be_read_again(tmp_path):
    places = range(MAX_EPOCHS - MAX_EXTENSIONS, MAX_EPOCHS)
    extensions = tuple(Extension(epoch=place, step=10**6, epochs=place + 1, policy="constant") for place in places)
    config = TrainConfig(epochs=MAX_EPOCHS, extensions=extensions)
    (tmp_path / "config.json").write_text(to_json(config, indent=2), encoding="utf-8")
    assert resolve_train(Given(), tmp_path / "config.json")[0] == config
