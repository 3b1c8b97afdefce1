"""`--budget`: what is chosen, that it fits, and that the run is the same as one that was told so from the start."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from resnetcli.config.train import TrainConfig
from resnetcli.engine.loop import Trainer
from resnetcli.events import Notice, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.services import budget
from resnetcli.services.budget import MAX_SMALL_FRACTION, plan, prepare_within_budget
from resnetcli.services.dry_run import dry_run
from resnetcli.services.pace import Pace, measure_pace
from resnetcli.services.setup import prepare_new
from resnetcli.services.train import train
from tests.services.runs import short_config, short_run
from tests.services.test_train import assert_same_end

PACE = Pace(
    first_loss=2.3, small_step=1.4, full_step=2.0, steps=88, epoch_end=6.0, run_end=12.0, save=0.5, save_every=60.0
)
"""About what the recipe `fast` costs on two AVX2 cores."""


@pytest.mark.parametrize("minutes", [8, 10, 12, 15, 20, 33, 60, 600])
def test_a_plan_fills_its_time_and_keeps_to_it(minutes):
    epochs, small = plan(PACE, 60 * minutes)
    used = PACE.seconds(epochs, small)
    assert used <= 60 * minutes
    assert epochs >= 2
    assert 0 <= small <= round(MAX_SMALL_FRACTION * epochs)
    if small:
        assert PACE.seconds(epochs, small - 1) > 60 * minutes  # no image is small that need not be
    assert PACE.seconds(epochs + 1, round(MAX_SMALL_FRACTION * (epochs + 1))) > 60 * minutes
    assert used > 60 * minutes - PACE.steps * PACE.full_step - PACE.epoch_end


def test_more_time_never_means_fewer_epochs():
    epochs = [plan(PACE, seconds)[0] for seconds in range(0, 20_000, 50)]
    assert epochs == sorted(epochs)
    assert (epochs[0], epochs[-1]) == (2, 122)


def test_two_epochs_are_the_least_and_a_warm_up_must_fit():
    assert plan(PACE, 1.0) == (2, 1)
    assert plan(PACE, 1.0, min_epochs=5)[0] == 5


def test_images_that_cost_the_same_stay_large():
    pace = replace(PACE, small_step=1.95, steps=10, epoch_end=0.0, run_end=0.0, save=0.0)
    assert plan(pace, 205.0) == (10, 0)


def test_no_machine_is_too_fast_for_a_plan():
    assert plan(replace(PACE, small_step=1e-9, full_step=1e-9, steps=1, epoch_end=0.0), 1e9)[0] == 10_000


@pytest.fixture
def paced(monkeypatch):
    """A machine on which three epochs, the first with small images, are what a minute allows."""
    pace = replace(PACE, small_step=2.0, full_step=5.0, steps=4, epoch_end=0.0, run_end=0.0, save=0.0)
    monkeypatch.setattr(budget, "measure_pace", lambda setup, **limits: pace)


def test_what_a_budget_chose_is_stored_said_and_repeated_bit_for_bit(paced, tmp_path):
    events = []
    settings = {"budget": 1.0, "start_size": 24, "precision": "fp32"}
    result = short_run(tmp_path, events.append, name="a", **settings)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (result.epochs, config["epochs"], config["budget"]) == (3, 3, None)
    assert (config["start_size"], config["start_size_until"]) == (24, pytest.approx(1 / 3))
    said = [event.text for event in events if isinstance(event, Notice)]
    assert any(
        "a budget of 1 min allows 3 epochs, the first 1 of them with images of 24x24 pixels" in text for text in said
    )
    assert any(text.endswith(" of 1 min") for text in said)
    again = TrainConfig.model_validate(config | {"name": "b"})
    train(again, stop=StopRequest(), on_event=ignore)
    assert_same_end(tmp_path / "a", tmp_path / "b")


def test_a_budget_that_is_too_small_says_what_the_least_takes(paced, tmp_path):
    events = []
    setup = prepare_within_budget(short_config(tmp_path, budget=0.001, start_size=24), events.append)
    assert (setup.config.epochs, setup.config.start_size, setup.config.start_size_until) == (2, 24, 0.5)
    warnings = [event.text for event in events if isinstance(event, Notice) and event.warning]
    assert any("a budget of 0.001 min is too small: the least are 2 epochs" in text for text in warnings)


def test_a_warm_up_that_is_longer_than_the_recipe_gets_its_epochs(paced, tmp_path):
    config = short_config(tmp_path, budget=0.001, warmup_epochs=12.5)
    assert prepare_within_budget(config, ignore).config.epochs == 13


def test_each_epoch_and_each_minute_of_it_has_a_save_to_pay_for():
    free, saving = replace(PACE, save=0.0), replace(PACE, save=2.0)
    assert saving.seconds(3, 0) - free.seconds(3, 0) == pytest.approx(2.0 * (1 + 3 + 3 * 88 * 2.0 / 60))
    every_step = replace(saving, save_every=0.0)
    assert every_step.seconds(3, 0) - free.seconds(3, 0) == pytest.approx(2.0 * (1 + 3 + 3 * 88))


def test_a_dry_run_shows_what_a_real_measurement_chose(tmp_path):
    """Also that the steps taken for it leave no trace: the run that follows begins with the initial weights."""
    origins = {"budget": "flag", "epochs": "recipe", "lr": "recipe"}
    planned = dry_run(short_config(tmp_path, budget=0.5, start_size=24), origins, on_event=ignore)
    chosen = ("epochs", "start_size", "start_size_until")
    assert {name: planned.origins[name] for name in ("budget", "lr", *chosen)} == (
        {"budget": "flag", "lr": "recipe"} | dict.fromkeys(chosen, "budget")
    )
    assert planned.config["budget"] == 0.5
    assert planned.steps == 4 * planned.config["epochs"]
    stated = short_config(tmp_path, **{name: planned.config[name] for name in chosen})
    assert dry_run(stated, {}, on_event=ignore).first_loss == planned.first_loss
    assert list(Path(tmp_path).iterdir()) == []


def test_measuring_stops_early_where_a_step_takes_long(tmp_path, monkeypatch):
    steps = []
    real = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(batch) or real(self, *batch))
    setup = prepare_new(short_config(tmp_path), ignore)
    measure_pace(setup, timed_steps=5)
    assert len(steps) == 6  # more than an epoch has
    steps.clear()
    measure_pace(setup, timed_steps=5, max_seconds=0.0)
    assert len(steps) == 2  # one that warms up, and one that counts
