import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetcli.config.train import TrainConfig
from resnetcli.engine.loop import Position, Trainer
from resnetcli.engine.runtime import Runtime
from resnetcli.errors import DivergedError
from resnetcli.events import EpochDone, StepDone, ignore

CPU = Runtime(torch.device("cpu"), "fp32", 1)
CONFIG = TrainConfig(epochs=3, optimizer="sgd", lr=0.05, batch_size=8, save_every=1e9, lookahead=2)


class Batches:
    """Ten batches of a separable problem."""

    steps, batch_size = 10, 8

    def __init__(self, poison: int | None = None) -> None:
        self.poison = poison

    def __call__(self, epoch, first_step=0):
        for step in range(first_step, self.steps):
            generator = torch.Generator().manual_seed(100 * epoch + step)
            images = torch.randn(self.batch_size, 3, 4, 4, generator=generator)
            labels = (images.mean((1, 2, 3)) > 0).long()
            if self.poison == 10 * epoch + step:
                images[0, 0, 0, 0] = math.nan
            yield images, labels


def trainer(config=CONFIG, batches=None):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    return Trainer(network, batches or Batches(), config, CPU)


def run(t, *, stop=lambda: False, validate=lambda: (0.5, 0.5), events=None, saves=None):
    return t.run(
        validate=validate,
        save=(saves if saves is not None else []).append,
        on_event=events.append if events is not None else ignore,
        stop=stop,
    )


def tensors(t):
    return {**t.model.state_dict(), **t.state()}


def reloaded(t):
    """A new trainer that is given what a checkpoint of this one holds."""
    with t.averaged():
        weights = {k: v.clone() for k, v in t.model.state_dict().items()}
    state = {k: v.clone() for k, v in t.state().items()}
    at = t.position
    new = trainer(t.config)
    new.model.load_state_dict(weights)
    new.load_state(state, Position(at.epoch, at.step, seconds=at.seconds, history=list(at.history)))
    return new


def assert_same(a, b):
    for name, tensor in tensors(a).items():
        assert torch.equal(tensor, tensors(b)[name]), name


def test_training_learns_and_reports_each_epoch():
    events = []
    t = trainer()
    assert run(t, events=events) == "finished"
    rows = [e.row for e in events if isinstance(e, EpochDone)]
    assert [r.epoch for r in rows] == [1, 2, 3]
    assert rows[-1].train_loss < rows[0].train_loss
    assert rows[0].val_top1 == 0.5
    steps = [e for e in events if isinstance(e, StepDone)]
    assert steps[-1].step == 10
    assert 0 <= steps[-1].top1 <= 1


@pytest.mark.parametrize("stop_at", range(1, 30, 4))
@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adam"])
@pytest.mark.parametrize("averaging", [{"lookahead": 2}, {"lookahead": 0, "ema": 0.9}], ids=["lookahead", "ema"])
def test_a_run_stopped_at_any_step_and_gone_on_with_equals_the_uninterrupted_one(stop_at, optimizer, averaging):
    config = CONFIG.model_copy(update={"optimizer": optimizer, **averaging})
    whole = trainer(config)
    run(whole)
    first = trainer(config)
    calls = iter(range(100))
    assert run(first, stop=lambda: next(calls) == stop_at) == "stopped"
    second = reloaded(first)
    assert run(second) == "finished"
    assert_same(whole, second)
    for a, b in zip(whole.position.history, second.position.history, strict=True):
        assert (a.train_loss, a.train_top1, a.lr) == (b.train_loss, b.train_top1, b.lr)


def test_a_stop_during_validation_leaves_the_epoch_open_so_that_resume_validates_it():
    whole, first, saves = trainer(), trainer(), []
    run(whole)
    assert run(first, validate=lambda: None, saves=saves) == "stopped"
    assert (first.position.epoch, first.position.step) == (0, 10)
    assert saves == [{}, {}]  # the beginning, and the end of the epoch
    second = reloaded(first)
    assert run(second) == "finished"
    assert_same(whole, second)
    assert len(second.position.history) == 3


@pytest.mark.parametrize("poison", [0, 14, 29])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(poison):
    t = trainer(batches=Batches(poison))
    clean = trainer()
    calls = iter(range(100))
    run(clean, stop=lambda: next(calls) == poison)
    with pytest.raises(DivergedError, match=f"epoch {poison // 10 + 1}, step {poison % 10 + 1}") as caught:
        run(t)
    assert "--lr" in caught.value.hint
    for p, q in zip(t.model.parameters(), clean.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_answer_to_a_mixed_image_is_right_where_it_is_the_larger_class():
    whole, mixed = trainer(), trainer()
    images, labels = next(Batches()(0))
    shares = torch.full((8, 2), 0.3).scatter_(1, labels[:, None], 0.7)
    whole.step(images, labels)
    mixed.step(images, shares)
    assert mixed.position.sums[1] == whole.position.sums[1]
    with torch.no_grad():
        logits = trainer().model.train()(images)
        blend = 0.7 * F.cross_entropy(logits, labels) + 0.3 * F.cross_entropy(logits, 1 - labels)
    assert mixed.position.sums[0].item() / 8 == pytest.approx(blend.item(), rel=1e-5)


def test_accumulated_parts_give_the_gradient_of_the_whole_batch():
    whole, parts = trainer(), trainer(CONFIG.model_copy(update={"grad_accum": 4}))
    for t in (whole, parts):
        t.model[1] = nn.Identity()  # BatchNorm sees the parts one by one, the rest must not notice
        t.__init__(t.model, t.batches, t.config, CPU)
        t.step(*next(iter(t.batches(0))))
    for p, q in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize(("count", "expected"), [(8, [[0, 4], [1, 5], [2, 6], [3, 7]]), (5, [[0, 4], [1], [2], [3]])])
def test_parts_are_drawn_from_the_whole_batch_and_are_as_many_as_asked(count, expected):
    t, seen = trainer(CONFIG.model_copy(update={"grad_accum": 4})), []
    t.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 0, 0, 0].tolist()))
    images = torch.randn(count, 3, 4, 4)
    images[:, 0, 0, 0] = torch.arange(count)
    t.step(images, torch.zeros(count, dtype=torch.int64))
    assert seen == expected


def test_patience_ends_a_run_that_no_longer_improves():
    scores = iter([0.5, 0.6, 0.6, 0.55, 0.7])
    t = trainer(CONFIG.model_copy(update={"epochs": 5, "patience": 2}))
    events = []
    assert run(t, validate=lambda: (1.0, next(scores)), events=events) == "patience"
    assert [e.best for e in events if isinstance(e, EpochDone)] == [True, True, False, False]
    again = trainer(t.config)
    again.load_state(t.state(), Position(4, 0, history=list(t.position.history)))
    assert run(again) == "patience"  # resumed after its end, it does not go on
    assert len(again.position.history) == 4


def test_max_time_saves_and_stops():
    saves = []
    t = trainer(CONFIG.model_copy(update={"max_time": 1e-9}))
    assert run(t, saves=saves) == "max_time"
    assert saves == [{}]
    assert t.global_step == 0


def test_a_final_run_saves_no_validation_metrics():
    saves, events = [], []
    run(trainer(), validate=lambda: (math.nan, math.nan), saves=saves, events=events)
    assert [sorted(s) for s in saves] == [[], *[["train_loss", "train_top1"]] * 3]
    assert all(e.row.val_top1 is None and not e.best for e in events if isinstance(e, EpochDone))


def test_save_every_0_saves_after_each_step_and_once_at_the_epochs_end():
    saves = []
    run(trainer(CONFIG.model_copy(update={"save_every": 0.0, "epochs": 1})), saves=saves)
    assert len(saves) == 11  # and at the beginning


def test_a_stop_at_the_first_step_of_an_epoch_keeps_what_the_last_save_said():
    saves, t = [], trainer()
    assert run(t, saves=saves, stop=lambda: t.position.epoch == 1) == "stopped"
    assert [bool(s) for s in saves] == [False, True]
    assert saves[-1]["val_top1"] == 0.5


def test_a_validation_loss_that_is_not_finite_stops_and_is_not_saved():
    saves = []
    with pytest.raises(DivergedError, match="validation loss is nan"):
        run(trainer(), validate=lambda: (math.nan, 0.1), saves=saves)
    assert saves == [{}]


def test_weights_that_are_not_finite_are_never_saved():
    saves, t = [], trainer(CONFIG.model_copy(update={"save_every": 0.0}))

    def spoil(event):
        if isinstance(event, StepDone) and t.position.step == 10:
            t.model[1].running_var[0] = math.inf

    with pytest.raises(DivergedError, match="not finite"):
        t.run(validate=lambda: (0.5, 0.5), save=saves.append, on_event=spoil, stop=lambda: False)
    assert len(saves) == 10


def test_a_step_does_not_build_on_gradients_that_a_failed_one_left():
    one, other = trainer(), trainer()
    images, labels = next(iter(Batches()(0)))
    for p in other.model.parameters():
        p.grad = torch.full_like(p, 1e6)
    for t in (one, other):
        t.step(images, labels)
    assert_same(one, other)
