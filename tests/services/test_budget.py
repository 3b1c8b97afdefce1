"""`--budget`: what is chosen, that it fits, and that the run is the same as one that was told so from the start."""

import json
from pathlib import Path

import pytest

from resnetcli.config.train import TrainConfig
from resnetcli.events import Notice, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.services import budget
from resnetcli.services.budget import MOST_SMALL, Pace, plan, prepare_run
from resnetcli.services.dry_run import dry_run
from resnetcli.services.train import train
from tests.services.runs import short_config, short_run
from tests.services.test_train import assert_same_end

PACE = Pace(full_step=2.0, small_step=1.4, steps=88, epoch_end=6.0, run_end=12.0)
"""About what the recipe `fast` costs on two AVX2 cores."""


@pytest.mark.parametrize("minutes", [8, 10, 12, 15, 20, 33, 60, 600])
def test_a_plan_fills_its_time_and_keeps_to_it(minutes):
    epochs, small = plan(PACE, 60 * minutes)
    used = PACE.seconds(epochs, small)
    assert used <= 60 * minutes
    assert epochs >= 2
    assert 0 <= small <= MOST_SMALL * epochs
    if small:
        assert PACE.seconds(epochs, small - 1) > 60 * minutes  # no image is small that need not be
    assert PACE.seconds(epochs + 1, int(MOST_SMALL * (epochs + 1))) > 60 * minutes
    assert used > 60 * minutes - PACE.steps * PACE.full_step - PACE.epoch_end


def test_more_time_never_means_fewer_epochs():
    epochs = [plan(PACE, seconds)[0] for seconds in range(0, 20_000, 50)]
    assert epochs == sorted(epochs)
    assert (epochs[0], epochs[-1]) == (2, 123)


def test_two_epochs_are_the_least_and_a_warm_up_must_fit():
    assert plan(PACE, 1.0) == (2, 0)
    assert plan(PACE, 1.0, least=5)[0] == 5


def test_images_that_cost_the_same_stay_large():
    pace = Pace(full_step=2.0, small_step=2.0, steps=10, epoch_end=0.0, run_end=0.0)
    assert plan(pace, 205.0) == (10, 0)


def test_no_machine_is_too_fast_for_a_plan():
    assert plan(Pace(1e-9, 1e-9, 1, 0.0, 0.0), 1e9)[0] == 10_000


@pytest.fixture
def paced(monkeypatch):
    """A machine on which three epochs, the first with small images, are what a minute allows."""
    monkeypatch.setattr(budget, "_measure", lambda setup, on_event: Pace(5.0, 2.0, 4, 1.0, 1.0))


def test_what_a_budget_chose_is_stored_said_and_repeated_bit_for_bit(paced, tmp_path):
    events = []
    settings = {"budget": 1.0, "start_size": 24, "precision": "fp32"}
    result = short_run(tmp_path, events.append, name="a", **settings)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (result.epochs, config["epochs"], config["budget"]) == (3, 3, None)
    assert (config["start_size"], config["start_size_until"]) == (24, pytest.approx(1 / 3))
    said = [event.text for event in events if isinstance(event, Notice)]
    assert any("1 minutes allow 3 epochs, the first 1 with images of 24x24 pixels" in text for text in said)
    assert any("of 1 minutes" in text for text in said)
    again = TrainConfig.model_validate(config | {"name": "b"})
    train(again, stop=StopRequest(), on_event=ignore)
    assert_same_end(tmp_path / "a", tmp_path / "b")


def test_a_budget_that_is_too_small_says_what_the_least_takes(paced, tmp_path):
    events = []
    setup = prepare_run(short_config(tmp_path, budget=0.001, start_size=24), events.append)
    assert (setup.config.epochs, setup.config.start_size) == (2, 32)
    warnings = [event.text for event in events if isinstance(event, Notice) and event.warning]
    assert any("0.001 minutes are too few: 2 epochs, the least" in text for text in warnings)


def test_a_real_measurement_finds_a_plan_that_a_dry_run_shows(tmp_path):
    """Also that the steps taken for it leave no trace: the run that follows begins with the initial weights."""
    planned = dry_run(short_config(tmp_path, budget=0.5, start_size=24), {}, on_event=ignore)
    assert planned.config["epochs"] >= 2
    assert planned.config["budget"] is None
    stated = dry_run(short_config(tmp_path, **_decided(planned.config)), {}, on_event=ignore)
    assert stated.first_loss == planned.first_loss
    assert list(Path(tmp_path).iterdir()) == []


def _decided(config):
    return {name: config[name] for name in ("epochs", "start_size", "start_size_until")}
