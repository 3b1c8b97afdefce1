import json
import shutil
from dataclasses import replace
from io import StringIO

import pytest
import safetensors.torch
import torch
from PIL import Image
from rich.console import Console

from resnetcli.checkpoints.format import encode, read_weights
from resnetcli.checkpoints.manager import best_first, read_model
from resnetcli.checkpoints.packaged import read_about
from resnetcli.checkpoints.reading import open_checkpoint
from resnetcli.config.commands import EvaluateConfig, PredictConfig
from resnetcli.data import mini
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import Notice, Progress, ignore
from resnetcli.reporting.checkpoints_view import checkpoint_panel
from resnetcli.results.checkpoints import MAX_TEMPERATURE, MIN_TEMPERATURE, Calibration
from resnetcli.services.checkpoints import NORMALIZATION, export, show
from resnetcli.services.evaluate import evaluate, select_split
from resnetcli.services.predict import predict
from resnetcli.services.setup import prepare_new
from tests.foreign import SMALL, lived_in
from tests.services.runs import short_config


def measured(checkpoint, on_event=ignore, **settings):
    return evaluate(EvaluateConfig(checkpoint=str(checkpoint), data="cifar10-mini", **settings), on_event=on_event)


@pytest.mark.parametrize(("split", "images"), [("test", 500), ("val", 200), ("train", 64)])
def test_each_split_is_measured_whole_and_named(run, split, images):
    result = measured(run, split=split)
    assert (result.protocol.split, result.scores.images, len(result.answers)) == (split, images, images)
    assert sum(map(sum, result.scores.confusion)) == images
    assert result.scores.top1.value == sum(a.label == a.predicted for a in result.answers) / images


def test_the_training_split_is_what_the_run_trained_on(run, tmp_path):
    batches = prepare_new(short_config(tmp_path), ignore).trainer.batches
    checkpoint = open_checkpoint(run, NORMALIZATION)
    chosen = select_split(mini.load(), "train", checkpoint)
    assert torch.equal(chosen.images, batches.images)
    assert torch.equal(chosen.labels, batches.labels)
    other = replace(checkpoint, header=checkpoint.header.model_copy(update={"data": "cifar10"}))
    assert len(select_split(mini.load(), "train", other).labels) == 2000


def test_the_validation_split_is_the_one_that_the_run_held_out(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert measured(run, split="val").scores.top1.value == pytest.approx(max(row["val_top1"] for row in rows))


def test_the_temperature_changes_probabilities_and_no_answer(calibrated):
    result, raw = measured(calibrated), measured(calibrated, calibrate=False)
    assert [a.predicted for a in result.answers] == [a.predicted for a in raw.answers]
    assert (result.scores.top1, result.scores.top5, result.scores.confusion) == (
        raw.scores.top1, raw.scores.top5, raw.scores.confusion,
    )  # fmt: skip
    assert result.temperature == show(str(calibrated)).checkpoints[0].calibration.temperature == 10
    assert (result.uncalibrated.nll, result.uncalibrated.ece) == (raw.scores.nll, raw.scores.ece)
    assert result.scores.nll != raw.scores.nll
    assert (raw.temperature, raw.uncalibrated) == (None, None)


def test_a_temperature_that_fits_lowers_the_loss(calibrated):
    result = measured(calibrated, split="val")
    assert result.scores.nll < result.uncalibrated.nll


@pytest.mark.parametrize("temperature", [MIN_TEMPERATURE, MAX_TEMPERATURE])
def test_a_stored_temperature_at_the_bound_of_its_fit_is_flagged_and_not_used(run, tmp_path, temperature):
    weights, header = read_model(best_first(run)[0])
    old = tmp_path / "old.safetensors"
    known = Calibration(temperature=temperature, images=200)
    old.write_bytes(encode(weights, header.model_copy(update={"calibration": known})))
    assert measured(old).temperature is None
    assert measured(old).scores == measured(run, calibrate=False).scores
    panel = StringIO()
    Console(file=panel, width=200).print(checkpoint_panel(show(str(old)).checkpoints[0]))
    assert f"{temperature:.3f} is the bound of its fit, and is not used" in panel.getvalue()


def test_a_checkpoint_from_before_there_was_a_temperature_is_measured_as_it_was(run, calibrated, tmp_path):
    weights, header = read_weights(calibrated)
    document = json.loads(header.model_dump_json())
    for field in ("calibration", "appearance"):
        assert document.pop(field)
    old = tmp_path / "old.safetensors"
    old.write_bytes(safetensors.torch.save(weights, {"resnetcli": json.dumps(document)}))
    assert measured(old).scores == measured(run, calibrate=False).scores
    assert measured(old).temperature is None


def test_a_run_its_best_checkpoint_and_a_portable_copy_give_one_answer(run, tmp_path):
    of_run = measured(run)
    portable = tmp_path / "m.safetensors"
    export(str(run), portable, force=False)
    for other, chosen_by in ((of_run.checkpoint, "user"), (portable, "val")):
        result = measured(other)
        assert result.answers == of_run.answers
        assert result.scores == of_run.scores
        assert result.protocol == of_run.protocol.model_copy(update={"chosen_by": chosen_by})


def test_test_time_augmentation_is_stated_and_changes_the_answers(run):
    results = [measured(run), measured(run, tta="flip"), measured(run, tta="shift")]
    assert [r.protocol.tta for r in results] == ["none", "flip", "shift"]
    assert len({r.answers for r in results}) == 3


def test_a_foreign_file_is_measured_with_a_notice_and_an_unknown_choice(tmp_path):
    path = tmp_path / "resnet50_epoch285.ckpt"
    torch.save(lived_in("identity", stages=SMALL).state_dict(), path)
    events = []
    result = measured(path, events.append)
    assert result.protocol.chosen_by == "unknown"
    assert any(isinstance(e, Notice) and "foreign" in e.text for e in events)
    assert [e.done for e in events if isinstance(e, Progress)][-1] == 500
    with pytest.raises(UsageError, match="held out no images"):
        measured(path, split="val")


def test_a_checkpoint_with_other_classes_is_refused(tmp_path):
    state = lived_in("identity", stages=SMALL).state_dict()
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:7], state["fc.bias"][:7]
    torch.save(state, tmp_path / "seven.ckpt")
    with pytest.raises(CheckpointError, match=r"knows 7 classes .*, but cifar10-mini has 10"):
        measured(tmp_path / "seven.ckpt")


def test_answers_that_are_no_numbers_are_reported_by_no_command(tmp_path):
    state = lived_in("identity", stages=SMALL).state_dict()
    state["fc.weight"].fill_(3e38)
    torch.save(state, tmp_path / "wild.ckpt")
    with pytest.raises(CheckpointError, match="its answers are not numbers, for 500 of 500 images") as caught:
        measured(tmp_path / "wild.ckpt")
    assert "lower --lr" in caught.value.hint
    Image.new("RGB", (32, 32)).save(tmp_path / "grey.png")
    config = PredictConfig(paths=(str(tmp_path / "grey.png"),), checkpoint=str(tmp_path / "wild.ckpt"))
    with pytest.raises(CheckpointError, match="not numbers, for 1 of 1 images"):
        predict(config, stdin=None, on_event=ignore, on_prediction=None)


def test_without_a_data_set_the_one_of_the_checkpoint_is_taken(run):
    result = evaluate(EvaluateConfig(checkpoint=str(run), split="val"), on_event=ignore)
    assert (result.protocol.data, result.scores.images) == ("cifar10-mini", 200)


@pytest.mark.whole_network
def test_without_a_checkpoint_the_packaged_weights_are_measured():
    result = evaluate(EvaluateConfig(data="cifar10-mini"), on_event=ignore)
    assert (result.checkpoint, result.scores.images) == ("pretrained", 500)
    assert result.scores.top1.value == pytest.approx(read_about("pretrained").metrics["test_top1"], abs=0.05)


def test_a_damaged_best_checkpoint_is_never_replaced_in_silence(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    best = best_first(copy)[0]
    data = bytearray((best / "model.safetensors").read_bytes())
    data[-9] ^= 4
    (best / "model.safetensors").write_bytes(data)
    events = []
    result = measured(copy, events.append)
    assert best.name not in result.checkpoint
    assert [best.name in e.text for e in events if isinstance(e, Notice) and e.warning] == [True]
