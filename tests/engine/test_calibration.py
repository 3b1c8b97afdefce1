"""The temperature: it is found, it is the best one, and nothing makes it absurd."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from resnetcli.engine.calibration import (
    FOLDS,
    calibrate,
    fit_temperature,
    held_out_gains,
    probabilities,
)
from resnetcli.results.checkpoints import MAX_TEMPERATURE, MIN_TEMPERATURE, SIGNIFICANT


def drawn(images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from the very probabilities that they state."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, 10, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


def loss(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    return F.cross_entropy(logits.double() / temperature, labels).item()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    logits, labels = drawn(50_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.02)


def test_logits_that_are_scaled_scale_the_temperature_and_nothing_else() -> None:
    logits, labels = drawn(500)
    logits = logits.double()
    one, three = fit_temperature(logits, labels), fit_temperature(3 * logits, labels)
    assert three == pytest.approx(3 * one, rel=1e-12)
    torch.testing.assert_close(probabilities(3 * logits, three), probabilities(logits, one))


@pytest.mark.parametrize("seed", range(5))
def test_no_temperature_nearby_has_less_cross_entropy(seed: int) -> None:
    logits, labels = drawn(200, seed)
    fitted = fit_temperature(logits, labels)
    least = loss(logits, labels, fitted)
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert loss(logits, labels, fitted * factor) > least


def test_at_the_minimum_the_logits_of_the_labels_are_the_ones_expected() -> None:
    logits, labels = drawn(300)
    p = probabilities(logits, fit_temperature(logits, labels))
    of_label = logits.double().gather(1, labels[:, None])[:, 0]
    assert (p * logits).sum(1).mean().item() == pytest.approx(of_label.mean().item(), abs=1e-12)


@given(
    st.lists(st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=3, max_size=3), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_any_finite_logits_give_a_temperature_within_its_bounds(rows: list[list[float]], random) -> None:
    labels = torch.tensor([random.randrange(3) for _ in rows])
    assert MIN_TEMPERATURE <= fit_temperature(torch.tensor(rows), labels) <= MAX_TEMPERATURE


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[9.0, 0.0], [0.0, 9.0]], [0, 1], MIN_TEMPERATURE),  # all right: the surer the better
        ([[9.0, 0.0]], [0], MIN_TEMPERATURE),
        ([[9.0, 0.0], [0.0, 9.0]], [1, 0], MAX_TEMPERATURE),  # all wrong: the less sure the better
        ([[4.0, 4.0], [7.0, 7.0]], [0, 1], 1.0),  # nothing said, nothing changed
    ],
)
def test_where_there_is_no_minimum_the_nearer_end_is_taken(
    logits: list[list[float]], labels: list[int], expected: float
) -> None:
    assert fit_temperature(torch.tensor(logits), torch.tensor(labels)) == expected


def test_a_constant_added_to_the_logits_of_an_image_is_nothing() -> None:
    logits, labels = drawn(200)
    moved = logits.double() + torch.arange(200.0)[:, None]
    assert fit_temperature(moved, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        fit_temperature(torch.zeros(0, 10), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_not_calibrated(value: float) -> None:
    logits, labels = drawn(100)
    logits *= 3
    known = calibrate(logits, labels)
    assert known is not None
    assert (known.images, known.split) == (100, "val")
    logits[3, 4] = value
    assert calibrate(logits, labels) is None


@pytest.mark.parametrize(("factor", "images"), [(3.0, 200), (0.4, 500), (1.5, 1000)])
def test_a_temperature_that_held_out_images_gain_by_is_kept_and_says_how_much(factor: float, images: int) -> None:
    logits, labels = drawn(images)
    known = calibrate(logits * factor, labels)
    assert known is not None
    assert known.temperature == fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.25)
    assert known.gain is not None
    assert known.gain_error is not None
    assert known.gain > SIGNIFICANT * known.gain_error > 0
    other, its_labels = drawn(20_000, seed=1)
    real = loss(other * factor, its_labels, 1.0) - loss(other * factor, its_labels, known.temperature)
    assert known.gain == pytest.approx(real, abs=4 * known.gain_error)


@pytest.mark.parametrize("images", [50, 200])
def test_logits_that_say_what_they_mean_get_no_temperature(images: int) -> None:
    """Though one that is fitted on them always has less cross-entropy on these very images."""
    kept = sum(calibrate(*drawn(images, seed)) is not None for seed in range(40))
    assert kept <= 1


def test_a_temperature_at_a_bound_is_not_kept() -> None:
    logits = 9 * torch.eye(10).repeat(20, 1)
    labels = torch.arange(10).repeat(20)
    assert calibrate(logits, labels) is None
    assert calibrate(logits, labels.roll(1)) is None


def test_gains_are_of_images_that_the_temperature_was_not_fitted_on() -> None:
    logits, labels = drawn(103)
    gains = held_out_gains(logits, labels)
    temperature = fit_temperature(logits[torch.arange(103) % FOLDS != 2], labels[torch.arange(103) % FOLDS != 2])
    mine = torch.arange(103) % FOLDS == 2
    expected = loss(logits[mine], labels[mine], 1.0) - loss(logits[mine], labels[mine], temperature)
    assert gains[mine].mean().item() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(gains, held_out_gains(logits, labels))
    assert calibrate(logits[: FOLDS - 1], labels[: FOLDS - 1]) is None
