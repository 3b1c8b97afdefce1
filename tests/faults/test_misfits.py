"""Checkpoints of something else, or of the right thing damaged: what was expected, what was found, nothing changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from resnetcli.checkpoints.format import HEADER_KEY, MODEL_FILE, TrainerHeader, encode, read_tensors
from resnetcli.checkpoints.manager import Snapshot, newest_intact
from resnetcli.cli.main import run as run_cli
from resnetcli.config.base import MAX_EPOCHS
from resnetcli.errors import CheckpointError
from resnetcli.events import ignore
from resnetcli.results.train import EpochRow
from resnetcli.services.setup import Setup, prepare_new
from resnetcli.services.train import restore
from tests.faults.conftest import Broke
from tests.faults.hostile import good_model, options, write_run
from tests.foreign import lived_in
from tests.services.runs import short_config, short_run
from tests.small import small_network

State = dict[str, Tensor]
FAULT = "wrong variant, classes, missing, extra, misshapen keys, newer schema; also in training state"
OUTCOME = "exit 4, expected against found; the live model untouched"


def ours(change: Callable[[State, dict[str, object]], object]) -> bytes:
    """A portable file whose tensors or header `change` has altered."""
    data = good_model()
    tensors = safetensors.torch.load(data)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][HEADER_KEY])
    change(tensors, header)
    return safetensors.torch.save(tensors, {HEADER_KEY: json.dumps(header)})


def set_in(header: dict[str, object], **values: object) -> None:
    """Keys of the architecture, or of the header itself."""
    architecture = header["architecture"]
    assert isinstance(architecture, dict)
    for name, value in values.items():
        (architecture if name in architecture else header)[name] = value


def spoil(tensors: State, name: str, value: float) -> None:
    """One number of a tensor."""
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] = value


# name: (change to tensors and header, what the message says)
MISFITS: dict[str, tuple[Callable[[State, dict[str, object]], object], str]] = {
    "the other variant": (lambda t, h: set_in(h, shortcut="projection"), "missing, first layer2.1.shortcut"),
    "an unknown variant": (lambda t, h: set_in(h, shortcut="zigzag"), "invalid field"),
    "more classes": (lambda t, h: set_in(h, num_classes=11, class_names=list("abcdefghijk")), "expected (11, 1024)"),
    "too few names": (lambda t, h: set_in(h, class_names=["a"]), "1 class names for 10 classes"),
    "no classes": (lambda t, h: set_in(h, num_classes=0, class_names=[]), "invalid field"),
    "another network": (lambda t, h: set_in(h, name="vgg"), "invalid field"),
    "another size": (lambda t, h: set_in(h, image_size=224), "invalid field"),
    "a missing weight": (lambda t, h: t.pop("layer3.1.branch.1.conv.weight"), "1 missing, first layer3.1.branch.1"),
    "a missing statistic": (lambda t, h: t.pop("layer2.0.branch.0.bn.running_var"), "1 missing, first layer2.0"),
    "an extra weight": (lambda t, h: t.update({"layer9.w": torch.ones(1)}), "1 unknown, first layer9.w"),
    "a misshapen weight": (lambda t, h: t.update({"head.weight": torch.ones(10, 7)}), "(10, 7), expected (10, 1024)"),
    "a transposed weight": (
        lambda t, h: t.update({"head.weight": torch.ones(1024, 10)}),
        "(1024, 10), expected (10, 1024)",
    ),
    "an empty weight": (lambda t, h: t.update({"head.bias": torch.ones(0)}), "(0,), expected (10,)"),
    "whole numbers": (lambda t, h: t.update({"head.bias": torch.ones(10).long()}), "torch.int64, expected"),
    "complex numbers": (lambda t, h: t.update({"head.bias": torch.ones(10) * 1j}), "torch.complex64, expected"),
    "numbers of 8 bits": (lambda t, h: t.update({"head.bias": torch.ones(10).to(torch.float8_e4m3fn)}), "torch.float8"),
    "a weight that is no number": (lambda t, h: spoil(t, "head.weight", math.nan), "head.weight holds nan (1 of its"),
    "an infinite bias": (lambda t, h: spoil(t, "head.bias", -math.inf), "head.bias holds -inf (1 of its 10 numbers)"),
    "an infinite variance": (
        lambda t, h: spoil(t, "layer1.0.bn.running_var", math.inf),
        "layer1.0.bn.running_var holds inf",
    ),
    "a variance just below 0": (
        lambda t, h: spoil(t, "layer4.5.branch.2.bn.running_var", -1e-7),
        "layer4.5.branch.2.bn.running_var holds -1e-07, and cannot be negative",
    ),
    "a newer schema": (lambda t, h: set_in(h, schema_version=2), "reads up to 1"),
    "a newer schema, as 2.0": (lambda t, h: set_in(h, schema_version=2.0), "reads up to 1"),
    "a much newer schema": (lambda t, h: set_in(h, schema_version=10**9), "reads up to 1"),
    "an unknown field": (lambda t, h: set_in(h, surprise=1), "invalid field"),
    "no normalisation": (lambda t, h: h.pop("normalization"), "invalid field"),
    "nothing in the header": (lambda t, h: h.clear(), "invalid field"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_said_by_every_option(
    misfit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broke: Broke
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "500")
    change, expected = MISFITS[misfit]
    (tmp_path / "misfit.safetensors").write_bytes(ours(change))
    (tmp_path / "good.safetensors").write_bytes(good_model())
    write_run(tmp_path / "run", {MODEL_FILE: ours(change)})
    every = options("good.safetensors")
    of_runs = ("checkpoints list", "checkpoints prune", "train --resume")
    asked = [(name, "misfit.safetensors") for name in every if name not in of_runs]
    asked += [("evaluate", "run"), ("train --resume", "run")]
    for option, target in asked:
        assert run_cli(every[option](target)) == 4, option
        printed = capsys.readouterr()
        assert expected in " ".join((printed.err + printed.out).split()), option
        assert "Traceback" not in printed.err
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out.safetensors").exists()
    broke(10, FAULT, len(asked), OUTCOME)


FOREIGN: dict[str, tuple[Callable[[State], object], str]] = {
    "a missing weight": (lambda s: s.pop("layer3.1.layer.1.0.weight"), "1 missing, first layer3.1.branch.1"),
    "an extra block": (lambda s: s.update({"layer2.7.layer.0.0.weight": torch.ones(1)}), "1 unknown, first layer2.7"),
    "a misshapen weight": (lambda s: s.update({"fc.weight": torch.ones(10, 7)}), "(10, 7), expected (10, 1024)"),
    "half of a projection": (
        lambda s: s.update({"layer2.1.make_equal_channel.0.weight": torch.ones(256, 256, 1, 1)}),
        "missing, first layer2.1.shortcut",
    ),
    "a bias that is no number": (
        lambda s: spoil(s, "layer2.0.layer.0.0.bias", math.nan),
        "layer2.0.layer.0.0.bias holds",
    ),
    "a negative variance": (lambda s: spoil(s, "layer1.1.running_var", -1e-6), "layer1.1.running_var holds -1e-06"),
    "a weight beyond float32": (
        lambda s: s.update({"fc.weight": torch.full((10, 1024), 1e300, dtype=torch.float64)}),
        "head.weight holds inf",
    ),
    "another network": (lambda s: s.update({"conv1.weight": torch.ones(1)}), "'conv1.weight' belongs to another"),
}


@pytest.mark.parametrize("misfit", FOREIGN)
def test_a_foreign_file_that_does_not_fit_is_refused(
    misfit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], broke: Broke
) -> None:
    state = lived_in("identity").state_dict()
    change, expected = FOREIGN[misfit]
    change(state)
    torch.save(state, tmp_path / "x.ckpt")
    assert run_cli(["inspect", str(tmp_path / "x.ckpt")]) == 4
    assert expected in capsys.readouterr().err
    broke(10, FAULT, 1, OUTCOME)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    with small_network():
        result = short_run(tmp_path_factory.mktemp("runs"), name="a", epochs=1)
    return newest_intact(Path(result.run_dir))[1]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with small_network():
        return prepare_new(short_config(tmp_path_factory.mktemp("live"), epochs=1), ignore)


def first(state: State, part: str) -> str:
    return next(name for name in state if part in name)


def momenta(state: State) -> list[str]:
    return [name for name in state if name.endswith("/momentum_buffer")]


TRAINING_STATE: dict[str, Callable[[State], object]] = {
    "no sums": lambda s: s.pop("sums"),
    "misshapen sums": lambda s: s.update(sums=torch.zeros(7, dtype=torch.float64)),
    "no state of the random numbers": lambda s: s.pop("rng"),
    "a short state of the random numbers": lambda s: s.update(rng=torch.zeros(10, dtype=torch.uint8)),
    "random numbers as floats": lambda s: s.update(rng=torch.zeros(5056)),
    "a misshapen momentum": lambda s: s.update({first(s, "momentum_buffer"): torch.zeros(3)}),
    "a momentum of whole numbers": lambda s: s.update(
        {first(s, "momentum_buffer"): torch.zeros_like(s[first(s, "momentum_buffer")]).long()}
    ),
    "a missing momentum": lambda s: s.pop(first(s, "momentum_buffer")),
    "a momentum of nothing": lambda s: s.update({"optimizer/layer9.w/momentum_buffer": torch.zeros(1)}),
    "another optimiser's": lambda s: s.update({first(s, "momentum_buffer").replace("momentum_buffer", "x"): s["sums"]}),
    "one number for every momentum": lambda s: s.update(dict.fromkeys(momenta(s), torch.zeros(()))),
    "another optimiser's for every parameter": lambda s: s.update(
        {name.replace("momentum_buffer", "exp_avg"): s.pop(name) for name in momenta(s)}
    ),
    "no momentum at all": lambda s: [s.pop(name) for name in momenta(s)],
    "no name": lambda s: s.update({"optimizer/x": torch.zeros(1)}),
    "a missing fast weight": lambda s: s.pop(first(s, "fast/")),
    "a misshapen fast weight": lambda s: s.update({first(s, "fast/"): torch.zeros(3)}),
}


def everything(setup: Setup) -> State:
    state = {
        **setup.network.state_dict(),
        **{f"trainer/{n}": t for n, t in setup.trainer.state().items() if n != "trainer/rng"},
    }
    state |= {f"model/{name}": tensor for name, tensor in setup.trainer.model.state_dict().items()}
    return {name: tensor.clone() for name, tensor in state.items() if name != "trainer/rng"}


@pytest.mark.parametrize("misfit", TRAINING_STATE)
def test_training_state_that_does_not_fit_leaves_the_live_model_as_it_was(
    misfit: str, snapshot: Snapshot, live: Setup, broke: Broke
) -> None:
    altered = dict(snapshot.trainer)
    TRAINING_STATE[misfit](altered)
    before, position = everything(live), replace(live.trainer.position)
    with pytest.raises(CheckpointError, match="does not fit its config"):
        restore(live, replace(snapshot, trainer=altered), Path("run/checkpoints/step-0000004"))
    after = everything(live)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert live.trainer.position.epoch == position.epoch
    broke(10, FAULT, 1, OUTCOME)


@pytest.mark.parametrize(
    "change", [{"epoch": -1}, {"step": -1}, {"global_step": -4}, {"seconds": -1.0}, {"epoch": 10**9}, {"versions": 3}]
)
def test_a_position_that_no_run_has_is_refused(change: dict[str, object], snapshot: Snapshot) -> None:
    values = json.loads(snapshot.position.model_dump_json()) | change
    with pytest.raises(ValueError, match=next(iter(change))):
        type(snapshot.position).model_validate(values)


def test_a_step_beyond_the_epoch_is_refused(snapshot: Snapshot, live: Setup) -> None:
    beyond = snapshot.position.model_copy(update={"epoch": 0, "step": live.trainer.batches.steps + 1})
    with pytest.raises(CheckpointError, match="step 5 of an epoch of 4"):
        restore(live, replace(snapshot, position=beyond), Path("run/checkpoints/step-0000004"))


def test_the_history_of_the_longest_run_can_be_read_back(snapshot: Snapshot, tmp_path: Path) -> None:
    """Or a run could save what no resume takes: the reader's limits are the writer's."""
    third = 1 / 3 * 1e-9
    row = EpochRow(
        epoch=10**4, step=10**9, train_loss=third, train_top1=third, val_loss=third, val_top1=third, lr=third,
        images_per_s=third, seconds=third, memory_mib=third,
    )  # fmt: skip
    position = snapshot.position.model_copy(update={"history": (row,) * MAX_EPOCHS})
    (tmp_path / "trainer.safetensors").write_bytes(encode(snapshot.trainer, position))
    _, again = read_tensors(tmp_path / "trainer.safetensors", TrainerHeader)
    assert again.history == position.history
