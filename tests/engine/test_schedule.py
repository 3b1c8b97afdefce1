"""Learning rates by the step, of runs as they were planned and of runs that were extended."""

import math

import pytest
from torch import nn

from resnetcli.config.extension import Extension
from resnetcli.config.train import TrainConfig
from resnetcli.engine.averaging import make_average
from resnetcli.engine.schedule import Clock, clock, learning_rate_share


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "linear"}, {0: 1.0, 50: 0.5, 99: 0.01}),
        ({"schedule": "cosine"}, {0: 1.0, 50: 0.5, 99: 0.5 * (1 + math.cos(math.pi * 0.99))}),
        ({"schedule": "constant"}, {0: 1.0, 99: 1.0}),
        ({"schedule": "step", "step_epochs": 4, "step_factor": 3}, {0: 1.0, 39: 1.0, 40: 1 / 3, 79: 1 / 3, 80: 1 / 9}),
        ({"schedule": "linear", "warmup_epochs": 2}, {0: 0.05, 19: 1.0, 20: 1.0, 60: 0.5}),
    ],
)
def test_the_learning_rate_follows_its_schedule(settings, expected):
    config = TrainConfig(epochs=10, **settings)
    for step, share in expected.items():
        assert learning_rate_share(step, 10, config) == pytest.approx(share), step


def extension(epoch, epochs, policy, step=0):
    return Extension(epoch=epoch, step=step, epochs=epochs, policy=policy)


FINISHED = {policy: (extension(10, 10, policy),) for policy in ("stretch", "restart", "constant")}


@pytest.mark.parametrize(
    ("settings", "extensions", "expected"),
    [
        ({}, FINISHED["stretch"], {99: 0.01, 100: 0.5, 150: 0.25, 199: 0.005}),
        ({}, FINISHED["restart"], {99: 0.01, 100: 1.0, 150: 0.5, 199: 0.01}),
        ({}, FINISHED["constant"], {99: 0.01, 100: 0.01, 199: 0.01}),
        ({"schedule": "cosine"}, FINISHED["stretch"], {100: 0.5, 199: 0.5 * (1 + math.cos(math.pi * 0.995))}),
        ({"warmup_epochs": 2}, FINISHED["restart"], {99: 1 / 80, 100: 0.05, 119: 1.0, 120: 1.0, 160: 0.5}),
        ({"warmup_epochs": 2}, FINISHED["stretch"], {0: 0.05, 100: 100 / 180}),
        ({"schedule": "step", "step_epochs": 4}, FINISHED["restart"], {80: 1 / 9, 100: 1.0, 139: 1.0, 140: 1 / 3}),
        ({"schedule": "step", "step_epochs": 4}, FINISHED["constant"], {100: 1 / 9, 199: 1 / 9}),
        ({}, (extension(3, 10, "stretch", step=5),), {34: 1 - 34 / 100, 35: 1 - 35 / 200}),
        ({}, (extension(3, 10, "constant", step=5),), {35: 1 - 34 / 100, 199: 1 - 34 / 100}),
        ({}, (extension(0, 10, "constant"),), {0: 1.0, 199: 1.0}),
        ({}, (extension(5, 10, "restart"), extension(10, 15, "stretch")), {50: 1.0, 75: 0.75, 100: 1 - 50 / 150}),
        ({}, (extension(5, 10, "constant"), extension(10, 15, "stretch")), {100: 1 - 49 / 100}),
        ({}, (extension(5, 10, "constant"), extension(10, 15, "restart")), {99: 1 - 49 / 100, 100: 1.0, 150: 0.5}),
        ({}, (extension(15, 30, "stretch"),), {149: 1 - 149 / 300, 150: 1 - 150 / 200}),
    ],
)
def test_an_extended_run_has_the_rates_of_its_policy_and_before_it_those_that_it_had(settings, extensions, expected):
    config = TrainConfig(epochs=20, extensions=extensions, **settings)
    for step, share in expected.items():
        assert learning_rate_share(step, 10, config) == pytest.approx(share), step
    first = 10 * extensions[0].epoch + extensions[0].step
    planned = TrainConfig(epochs=extensions[0].epochs, **settings)
    assert all(learning_rate_share(s, 10, config) == learning_rate_share(s, 10, planned) for s in range(first))


def test_lookahead_goes_by_the_same_clock_and_acts_at_the_end_that_was_planned_and_at_the_new_one():
    config = TrainConfig(epochs=20, lookahead=7, extensions=FINISHED["restart"])
    average = make_average(nn.Linear(1, 1), config, 10)
    assert (average.clock_at(99), average.clock_at(100)) == (Clock(99, 100, 100), Clock(0, 100, 200))
    assert clock(199, 10, config) == Clock(99, 100, 200)
    assert clock(150, 10, config.model_copy(update={"extensions": FINISHED["constant"]})) == Clock(99, 100, 200)
