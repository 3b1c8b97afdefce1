import csv
import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnetcli.checkpoints.format import MODEL_FILE, ModelHeader, encode, entry_for, read_own_header
from resnetcli.checkpoints.manager import best_first, newest_intact, read_best
from resnetcli.config.base import InferenceOptions
from resnetcli.config.commands import EvaluateConfig
from resnetcli.config.train import TrainConfig
from resnetcli.data import mini
from resnetcli.data.appearance import learn_appearance
from resnetcli.data.batches import EvalBatches, Normalizer
from resnetcli.engine.calibration import fit_temperature
from resnetcli.engine.evaluate import collect_logits
from resnetcli.errors import CheckpointError, DivergedError, Interrupted, RunInUseError, UsageError
from resnetcli.events import CheckpointSaved, EpochDone, Notice, Progress, RunStarted, StepDone, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.models.resnet import ResNet
from resnetcli.results import checkpoints
from resnetcli.services.dry_run import dry_run
from resnetcli.services.evaluate import evaluate, select_split
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import MEAN, STD, for_inference, open_network
from resnetcli.services.run_folder import new_run_folder
from resnetcli.services.train import resume, train
from tests.foreign import SMALL, lived_in
from tests.services.runs import short_config, short_run
from tests.small import small_network


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    events = []
    with small_network():
        result = short_run(tmp_path_factory.mktemp("whole"), events.append, name="whole")
    return result, events


GROWING = {"start_size": 24, "cutout": 8, "cutmix": 1.0}


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    events = []
    with small_network():
        return short_run(tmp_path_factory.mktemp("growing"), events.append, name="growing", **GROWING), events


def assert_same_end(run_a, run_b):
    _, a = newest_intact(run_a)
    _, b = newest_intact(run_b)
    for field in ("metrics", "calibration", "appearance"):
        assert getattr(a.header, field) == getattr(b.header, field), field
    assert best_first(run_a)[0].name == best_first(run_b)[0].name
    for kind in ("model", "trainer"):
        left, right = getattr(a, kind), getattr(b, kind)
        assert left.keys() == right.keys()
        for name in left:
            assert left[name].numpy().tobytes() == right[name].numpy().tobytes(), (kind, name)


def test_a_run_leaves_config_metrics_and_checkpoints(whole, tmp_path):
    result, events = whole
    run = Path(result.run_dir)
    assert (result.epochs, result.steps, result.stopped) == (2, 8, "finished")
    assert sorted(p.name for p in run.iterdir() if not p.name.startswith(".")) == [
        "checkpoints", "config.json", "metrics.csv", "metrics.jsonl",
    ]  # fmt: skip
    config = TrainConfig.model_validate_json((run / "config.json").read_text())
    assert config.name == "whole"
    assert "auto" not in (config.device, config.precision)
    assert config.threads == torch.get_num_threads()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    table = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == [1, 2]
    assert float(table[1]["val_top1"]) == rows[1]["val_top1"] == result.history[1].val_top1
    assert {type(e) for e in events} >= {RunStarted, StepDone, EpochDone, CheckpointSaved}


def test_each_epoch_is_calibrated_on_its_own_validation_images(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SIGNIFICANT", -math.inf)  # 200 images are too few to earn a temperature
    saved = {}

    def look(event):
        if isinstance(event, CheckpointSaved):
            saved[event.step] = read_own_header(event.path / MODEL_FILE, ModelHeader)

    learns = {"lr": 0.005, "lookahead": 0, "limit_train": 128}  # so that a temperature within its bounds fits
    result = short_run(tmp_path, look, name="r", save_every=0.0, **learns)
    assert {step for step, header in saved.items() if header.calibration} == {8, 16}  # not inside an epoch
    first, last = saved[8].calibration, saved[16].calibration
    assert first.temperature != last.temperature
    assert (last.images, last.split) == (200, "val")
    checkpoint, network = open_network(str(tmp_path / "r" / "checkpoints" / "step-0000016"), ignore)
    val = select_split(mini.load(), "val", checkpoint)
    normalize = Normalizer(MEAN, STD, torch.device("cpu"))
    logits = collect_logits(
        for_inference(network, runtime_for(InferenceOptions(device="cpu"), ignore)),
        EvalBatches(val.images, 128, normalize),
    )
    assert fit_temperature(logits, val.labels) == last.temperature
    assert {header.appearance for header in saved.values()} == {learn_appearance(val.images, "val")}
    best = max(result.history, key=lambda row: row.val_top1)
    assert result.measured.temperature == saved[best.step].calibration.temperature


def test_the_test_split_is_measured_once_at_the_end_on_the_best_checkpoint(whole):
    result, _ = whole
    assert result.measured.protocol.split == "test"
    assert result.measured.protocol.chosen_by == "val"
    assert result.measured.scores.images == 500
    again = evaluate(EvaluateConfig(checkpoint=result.run_dir, split="test"), on_event=ignore)
    assert again.scores == result.measured.scores
    best = max(result.history, key=lambda row: row.val_top1)
    assert result.checkpoint.endswith(f"step-{best.step:07d}")


def test_a_run_that_chooses_settings_can_leave_the_test_images_unread(tmp_path, whole):
    result = short_run(tmp_path, measure_on="val")
    assert (result.measured.protocol.split, result.measured.scores.images) == ("val", 200)
    assert [r.val_top1 for r in result.history] == [r.val_top1 for r in whole[0].history]
    assert result.measured.scores.top1.value == max(r.val_top1 for r in result.history)


def test_the_same_config_gives_the_same_weights(whole, tmp_path):
    again = short_run(tmp_path, name="again")
    assert_same_end(Path(whole[0].run_dir), Path(again.run_dir))


@pytest.mark.parametrize("stop_after", [1, 4, 6])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_resume_ends_where_the_uninterrupted_run_ended(whole, tmp_path, stop_after, signum):
    stop = StopRequest()
    steps = []

    def on_event(event):
        if isinstance(event, CheckpointSaved | StepDone):
            steps.append(event)
        if len([e for e in steps if isinstance(e, CheckpointSaved)]) >= stop_after:
            stop.signum = signum

    config = short_config(tmp_path, name="cut", save_every=0.0)
    with pytest.raises(Interrupted) as caught:
        train(config, stop=stop, on_event=on_event)
    assert caught.value.exit_code == 128 + signum
    assert "--resume" in caught.value.hint
    result = resume(tmp_path / "cut", {}, stop=StopRequest(), on_event=ignore)
    assert result.stopped == "finished"
    assert_same_end(Path(whole[0].run_dir), tmp_path / "cut")
    assert [(r.train_loss, r.val_top1) for r in result.history] == [
        (r.train_loss, r.val_top1) for r in whole[0].history
    ]


@pytest.mark.parametrize("stop_after", [2, 4, 5, 6])
def test_a_run_whose_images_grow_is_resumed_bit_for_bit_before_at_and_after_the_change(growing, tmp_path, stop_after):
    whole, events = growing
    assert any(isinstance(e, Notice) and "24x24 pixels up to epoch 1, of 32x32 after it" in e.text for e in events)
    stop, saves = StopRequest(), []

    def on_event(event):
        saves.extend([event] if isinstance(event, CheckpointSaved) else [])
        if len(saves) >= stop_after:
            stop.signum = signal.SIGTERM

    with pytest.raises(Interrupted):
        train(short_config(tmp_path, name="cut", save_every=0.0, **GROWING), stop=stop, on_event=on_event)
    resume(tmp_path / "cut", {}, stop=StopRequest(), on_event=ignore)
    assert_same_end(Path(whole.run_dir), tmp_path / "cut")


def test_resume_of_a_finished_run_only_measures_again(whole):
    result = resume(Path(whole[0].run_dir), {}, stop=StopRequest(), on_event=ignore)
    assert result.steps == whole[0].steps
    assert result.measured.scores == whole[0].measured.scores


def test_resume_falls_back_to_an_intact_checkpoint_and_says_so(tmp_path):
    run = tmp_path / "r"
    short_run(tmp_path, name="r", epochs=3, keep_last=3)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 255
    (newest / "model.safetensors").write_bytes(data)
    events = []
    result = resume(run, {}, stop=StopRequest(), on_event=events.append)
    assert result.stopped == "finished"
    assert any(isinstance(e, Notice) and e.warning and newest.name in e.text for e in events)


def test_a_final_run_trains_on_everything_and_reports_its_last_epoch(tmp_path):
    result = short_run(tmp_path, name="final", val_fraction=0.0, epochs=1)
    assert result.history[0].val_top1 is None
    assert result.measured.protocol.chosen_by == "none"
    assert result.checkpoint.endswith("step-0000004")
    assert (result.measured.temperature, result.measured.uncalibrated) == (None, None)
    _, snapshot = newest_intact(tmp_path / "final")
    assert snapshot.header.calibration is None
    assert snapshot.header.appearance is None  # 64 images are too few


@pytest.mark.whole_network
def test_a_run_starts_from_a_foreign_checkpoint_and_takes_over_its_variant(tmp_path):
    path = tmp_path / "f.ckpt"
    torch.save(lived_in("projection").state_dict(), path)
    events = []
    result = short_run(tmp_path, events.append, name="f", init=str(path), epochs=1, lr=1e-6, sgd_lr=1e-6)
    assert any(isinstance(e, Notice) and "projection" in e.text for e in events)
    _, snapshot = newest_intact(tmp_path / "f")
    assert snapshot.header.architecture.shortcut == "projection"
    before = open_network(str(path), ignore)[1].state_dict()["layer4.3.branch.1.conv.weight"]
    torch.testing.assert_close(snapshot.model["layer4.3.branch.1.conv.weight"], before, rtol=0, atol=1e-3)
    assert any(isinstance(e, Notice) and "will flatter" in e.text for e in events)
    assert result.steps == 4


@pytest.mark.whole_network
def test_a_run_starts_from_the_packaged_weights_by_their_name(tmp_path):
    events = []
    result = short_run(tmp_path, events.append, name="tuned", init="pretrained", epochs=1, lr=1e-4)
    assert result.history[0].train_top1 > 0.5
    assert any(isinstance(e, Notice) and "pretrained may have been trained" in e.text for e in events)
    header = newest_intact(Path(result.run_dir))[1].header
    assert (header.config["init"], header.rounded) == ("pretrained", None)
    assert "test_top1" not in header.metrics


@pytest.mark.whole_network
@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_a_run_that_hardly_learns_answers_as_the_weights_that_it_started_from(tmp_path, optimizer):
    rates = {"optimizer": optimizer, "lr": 1e-9, "sgd_lr": 1e-9, "lookahead": 0}
    result = short_run(tmp_path, name="still", init="pretrained", epochs=1, limit_train=320, batch_size=32, **rates)
    assert result.measured.scores.top1.value > 0.8


def test_a_run_whose_network_answers_with_no_numbers_has_diverged(tmp_path, monkeypatch):
    answers = torch.full((500, 10), float("nan"))  # as after --lr 1000, whose weights are finite all the same
    monkeypatch.setattr("resnetcli.services.evaluate.collect_logits", lambda *_, **__: answers)
    with pytest.raises(DivergedError, match="its answers are not numbers, for 500 of 500 images"):
        short_run(tmp_path, name="wild", epochs=1, val_fraction=0)


def test_weights_that_no_run_can_start_from_bring_no_advice_on_the_learning_rate(tmp_path):
    short_run(tmp_path, name="good", epochs=1, limit_train=32)
    weights, header = read_best(tmp_path / "good")[1:3]
    weights["head.weight"] = torch.full_like(weights["head.weight"], 3e38)
    (tmp_path / "large.safetensors").write_bytes(encode(weights, header))
    with pytest.raises(DivergedError, match="cannot begin") as caught:
        short_run(tmp_path, name="tuned", init=str(tmp_path / "large.safetensors"), epochs=1)
    assert caught.value.hint == "start from other weights"


def test_the_warning_of_images_that_may_be_known_is_handed_down(tmp_path):
    def warned(events):
        return any(isinstance(e, Notice) and "may have been trained on images of this val" in e.text for e in events)

    parent: str | None = None
    for name, fraction, expected in (("a", 0.0, False), ("b", 0.1, True), ("c", 0.1, True)):
        events = []
        short_run(tmp_path, events.append, name=name, init=parent, epochs=1, limit_train=32, val_fraction=fraction)
        assert warned(events) == expected
        parent = str(tmp_path / name)
    events = []
    evaluate(EvaluateConfig(checkpoint=parent, split="val"), on_event=events.append)
    assert warned(events)


def test_a_checkpoint_names_the_weights_that_it_came_from_generation_by_generation(tmp_path):
    short_run(tmp_path, name="a", epochs=1, limit_train=32)
    short_run(tmp_path, name="b", epochs=1, limit_train=32, init=str(tmp_path / "a"), seed=1)
    short_run(tmp_path, name="c", max_time=1e-6, epochs=1, limit_train=32, init=str(tmp_path / "b"))
    resume(tmp_path / "c", {}, stop=StopRequest(), on_event=ignore)
    lineage = newest_intact(tmp_path / "c")[1].header.lineage
    files = [read_best(tmp_path / name)[0] / "model.safetensors" for name in ("b", "a")]
    assert [of.sha256 for of in lineage] == [entry_for(file).sha256 for file in files]
    assert [(of.name, of.step, of.config["seed"]) for of in lineage] == [("b", 2, 1), ("a", 2, 0)]
    assert [of.config["init"] for of in lineage] == ["a", None]
    assert str(tmp_path) not in str(lineage)


def test_validation_images_that_no_generation_was_trained_on_are_not_warned_of(tmp_path):
    events = []
    short_run(tmp_path, name="a", epochs=1, limit_train=32, val_fraction=0.2)
    short_run(tmp_path, events.append, name="b", epochs=1, limit_train=32, init=str(tmp_path / "a"))
    short_run(tmp_path, events.append, name="c", epochs=1, limit_train=32, init=str(tmp_path / "b"))
    evaluate(EvaluateConfig(checkpoint=str(tmp_path / "c"), split="val"), on_event=events.append)
    assert not [e.text for e in events if isinstance(e, Notice) and e.warning]


def test_a_run_that_goes_on_warns_again_of_validation_images_that_may_be_known(tmp_path):
    short_run(tmp_path, name="a", epochs=1, limit_train=32, split_seed=1)
    short_run(tmp_path, name="b", max_time=1e-6, epochs=1, limit_train=32, init=str(tmp_path / "a"))
    events = []
    resume(tmp_path / "b", {}, stop=StopRequest(), on_event=events.append)
    assert any(isinstance(e, Notice) and "will flatter" in e.text for e in events)


def test_a_run_that_is_called_as_the_packaged_weights_is_measured_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = short_run(Path(), name="pretrained", epochs=1)
    assert result.run_dir == "pretrained"
    assert result.checkpoint == result.measured.checkpoint
    assert Path(result.checkpoint).parent == Path("pretrained", "checkpoints")


def test_a_run_from_a_foreign_checkpoint_is_resumed_without_that_file(tmp_path):
    path = tmp_path / "f.ckpt"
    torch.save(lived_in("projection", stages=SMALL).state_dict(), path)
    settings = {"init": str(path), "epochs": 1, "lr": 1e-6}
    short_run(tmp_path, name="whole", **settings)
    short_run(tmp_path, name="cut", max_time=1e-6, **settings)
    path.unlink()
    resume(tmp_path / "cut", {}, stop=StopRequest(), on_event=ignore)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_run_shorter_than_lookahead_hands_out_what_it_learned(tmp_path):
    result = short_run(tmp_path, name="brief", epochs=1, lookahead=50)
    start = ResNet(branch_scale=0.3)  # initial weights differ in every tensor from trained ones, whatever the seed
    _, snapshot = newest_intact(tmp_path / "brief")
    assert snapshot.position.global_step == 4
    assert not torch.equal(snapshot.model["layer1.0.bn.weight"], start.layer1[0].bn.weight)
    fast = snapshot.trainer["fast/layer1.0.bn.weight"]
    assert torch.equal(snapshot.model["layer1.0.bn.weight"], fast)
    assert result.history[0].val_top1 is not None


def test_a_run_killed_before_its_first_epoch_can_be_resumed(whole, tmp_path):
    class Killed(BaseException):
        pass

    def kill(event):
        if isinstance(event, StepDone):
            raise Killed

    with pytest.raises(Killed):
        short_run(tmp_path, kill, name="early")
    resume(tmp_path / "early", {}, stop=StopRequest(), on_event=ignore)
    assert_same_end(Path(whole[0].run_dir), tmp_path / "early")


def test_a_signal_during_the_closing_measurement_is_honoured(tmp_path):
    stop = StopRequest()

    def on_event(event):
        if isinstance(event, Progress) and event.task.startswith("Evaluating on test"):
            stop.signum = signal.SIGTERM

    with pytest.raises(Interrupted) as caught:
        train(short_config(tmp_path, name="end", epochs=1), stop=stop, on_event=on_event)
    assert caught.value.exit_code == 143
    assert resume(tmp_path / "end", {}, stop=StopRequest(), on_event=ignore).measured is not None


def test_max_time_leaves_a_run_that_can_be_resumed(whole, tmp_path):
    result = short_run(tmp_path, name="t", max_time=1e-6)
    assert (result.stopped, result.measured) == ("max_time", None)
    resume(tmp_path / "t", {}, stop=StopRequest(), on_event=ignore)
    assert_same_end(Path(whole[0].run_dir), tmp_path / "t")


@pytest.mark.parametrize(("name", "value"), [("split_seed", 7), ("seed", 5), ("epochs", 4), ("shortcut", "projection")])
def test_a_run_whose_settings_were_edited_is_not_gone_on_with(whole, tmp_path, name, value):
    run = tmp_path / "run"
    shutil.copytree(whole[0].run_dir, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(CheckpointError, match=f"config.json says {name} {value}, but .* with {config[name]}"):
        resume(run, {}, stop=StopRequest(), on_event=ignore)
    (run / "config.json").write_text(json.dumps(config | {"threads": 1, "output_dir": "elsewhere", "keep_last": 5}))
    resume(run, {}, stop=StopRequest(), on_event=ignore)


def test_runs_are_numbered_and_never_overwritten(tmp_path):
    config = short_config(tmp_path)
    assert [new_run_folder(config).name for _ in range(2)] == ["fast-1", "fast-2"]
    named = short_config(tmp_path, name="fast-1")
    (tmp_path / "fast-1" / "config.json").write_text("{}")
    assert new_run_folder(named).name == "fast-1"  # it never saved anything
    (tmp_path / "fast-1" / "checkpoints" / "step-0000000").mkdir(parents=True)
    with pytest.raises(UsageError, match="a run of this name exists"):
        new_run_folder(named)
    (tmp_path / "fast-2" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        new_run_folder(short_config(tmp_path, name="fast-2"))


def test_a_share_of_less_than_an_image_a_class_is_no_validation_split(tmp_path):
    with pytest.raises(UsageError, match=r"--val-fraction 0\.0001"):
        short_run(tmp_path, val_fraction=0.0001)


def test_a_run_that_is_in_use_cannot_be_resumed(whole):
    program = (
        "import sys; from pathlib import Path; from resnetcli.checkpoints.locks import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, whole[0].run_dir]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunInUseError):
            resume(Path(whole[0].run_dir), {}, stop=StopRequest(), on_event=ignore)
        holder.stdin.close()


def test_a_folder_that_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="not a run directory"):
        resume(tmp_path, {}, stop=StopRequest(), on_event=ignore)


def test_more_images_than_there_are_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="there are 1800"):
        short_run(tmp_path, limit_train=1801)


def test_a_dry_run_takes_a_real_step_and_writes_nothing(tmp_path):
    result = dry_run(short_config(tmp_path), {"lr": "flag"}, on_event=ignore)
    assert list(tmp_path.iterdir()) == []
    assert result.steps == 8
    assert 1.5 < result.first_loss < 4
    assert result.estimated_seconds > 8 * result.step_seconds
    assert result.disk_needed > 3 * 4 * result.parameters
    assert result.last_step_seconds == result.step_seconds


def test_a_dry_run_measures_steps_of_both_sizes_where_the_images_grow(tmp_path):
    result = dry_run(short_config(tmp_path, start_size=20), {}, on_event=ignore)
    assert result.last_step_seconds != result.step_seconds
    assert result.estimated_seconds > 4 * (result.step_seconds + result.last_step_seconds)
