"""What keeps numbers that are not finite away from the weights: by asking on a CPU, by itself on a GPU, for which a CPU
stands in here."""

from __future__ import annotations

import math

import pytest
import torch

from resnetcli.engine.guard import DeviceGuard, magnitude
from resnetcli.errors import DivergedError
from resnetcli.events import StepDone
from tests.engine.test_loop import CONFIG, CPU, run, tensors, trainer

OPTIMIZERS = ("sgd", "muon", "adam", "adamw")
STEPS = (0, 14, 29)


def guarded(config):
    """A trainer as on a GPU: nothing is asked before a step."""
    t = trainer(config)
    t.guard = DeviceGuard(CPU.device)
    t.optimizers.hold_by(t.guard.held)
    return t


def poison(t, at, value, where):
    """From the step `at` on (from 0), once, the loss or a single entry of a gradient is multiplied by `value`."""
    parameter = dict(t.model.named_parameters())["4.weight"]
    step, seen = t._compute, []

    def poisoned(images, labels):
        now = len(seen) == at
        seen.append(now)
        if where == "loss" and now:
            images = images.clone()
            images[0, 0, 0, 0] = value
        step(images, labels)

    def spoil(gradient):
        if where == "gradient" and seen and seen[-1]:
            gradient = gradient.clone()
            gradient[0, 0] = value
        return gradient

    t._compute = poisoned
    parameter.register_hook(spoil)


@pytest.mark.parametrize("make", [trainer, guarded], ids=["asked before the step", "held by the device"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", STEPS)
def test_parameters_stay_as_they_were_before_the_first_bad_step(make, optimizer, where, value, at):
    config = CONFIG.model_copy(update={"optimizer": optimizer, "weight_decay": 0.01, "lookahead": 0})
    clean, t, saves = make(config), make(config), []
    calls = iter(range(100))
    run(clean, stop=lambda: next(calls) == at)
    poison(t, at, value, where)
    with pytest.raises(DivergedError, match=rf"epoch {at // 10 + 1}, step {at % 10 + 1} \(lr {_rate(at)}\)") as caught:
        run(t, saves=saves)
    assert "--lr" in caught.value.hint
    assert len(saves) == 1 + at // 10  # the beginning, and the epochs that ended before
    for p, q in zip(t.model.parameters(), clean.model.parameters(), strict=True):
        assert torch.equal(p, q)


def _rate(step):
    return f"{CONFIG.lr * (1 - step / 30):g}"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_guard_changes_nothing_while_all_is_finite(optimizer):
    config = CONFIG.model_copy(update={"optimizer": optimizer, "weight_decay": 0.01})
    one, other = trainer(config), guarded(config)
    for t in (one, other):
        run(t)
    for name, tensor in tensors(one).items():
        assert torch.equal(tensor, tensors(other)[name]), name


def test_a_held_step_is_told_when_the_loop_next_hears_of_the_device_and_nothing_is_saved_in_between():
    t, saves, heard = guarded(CONFIG.model_copy(update={"save_every": 0.0})), [], []
    poison(t, 4, math.inf, "gradient")
    with pytest.raises(DivergedError, match="epoch 1, step 5 "):
        t.run(validate=lambda: (0.5, 0.5), save=saves.append, on_event=heard.append, stop=lambda: False)
    assert len(saves) == 5
    assert not [e for e in heard if isinstance(e, StepDone) and e.step > 4]


def test_a_run_that_goes_on_names_the_step_of_the_whole_run():
    first = guarded(CONFIG)
    calls = iter(range(100))
    assert run(first, stop=lambda: next(calls) == 13) == "stopped"
    second = guarded(CONFIG)
    second.load_state({k: v.clone() for k, v in first.state().items()}, first.position)
    poison(second, 3, math.nan, "gradient")
    with pytest.raises(DivergedError, match="epoch 2, step 7 "):
        run(second)


def test_weights_that_are_not_finite_to_begin_with_are_no_matter_of_the_learning_rate():
    t = trainer()
    with torch.no_grad():
        t.model[0].weight[0, 0, 0, 0] = math.nan
    with pytest.raises(DivergedError, match="cannot begin") as caught:
        run(t)
    assert "--lr" not in caught.value.hint


@pytest.mark.parametrize("make", [trainer, guarded])
def test_a_first_step_from_given_weights_that_is_not_finite_is_no_matter_of_the_learning_rate(make):
    t = make(CONFIG.model_copy(update={"init": "weights.safetensors"}))
    poison(t, 0, math.nan, "loss")
    with pytest.raises(DivergedError, match="cannot begin: loss or gradient is not finite in its first step") as caught:
        run(t)
    assert caught.value.hint == "start from other weights"


def test_the_guard_asks_the_device_nothing(monkeypatch):
    guard, gradients = DeviceGuard(CPU.device), [torch.ones(3), torch.ones(2, 2)]

    def asked(*args):
        raise AssertionError("a GPU would have been waited for")

    for name in ("item", "__bool__", "__float__", "__int__", "tolist", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, asked)
    guard.look(gradients, torch.ones(()))
    gradients[1][0, 1] = math.inf
    guard.look(gradients, torch.ones(()))
    guard.look([torch.ones(1)], torch.ones(()))
    monkeypatch.undo()
    assert guard.figures.tolist() == [3, 2]
    assert guard.held == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_magnitude_is_finite_exactly_if_every_entry_and_the_loss_are(value):
    entries = [torch.randn(64, 8), torch.randn(3).bfloat16(), torch.zeros(1)]
    assert math.isfinite(magnitude(entries, torch.ones((), dtype=torch.float64)))
    assert not math.isfinite(magnitude(entries, torch.tensor(value)))
    for entry in entries:
        spoilt = [t.clone() for t in entries]
        next(t for t, e in zip(spoilt, entries, strict=True) if e is entry).view(-1)[-1] = value
        assert not math.isfinite(magnitude(spoilt, torch.ones(())))
