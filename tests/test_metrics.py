"""Metrics against hand-checked figures and against the identities that every confusion matrix obeys."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetcli.metrics import CALIBRATION_BINS, SMALLEST_PROBABILITY, Z_95, confusion_matrix, scores, wilson
from resnetcli.results.evaluate import Scores

NAMES = ("cat", "dog", "ship", "frog", "deer", "bird")
probabilities = st.floats(0, 1)


@st.composite
def any_scores(draw: st.DrawFn) -> tuple[list[int], list[int], Scores]:
    n = draw(st.integers(2, len(NAMES)))
    answers = draw(
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.booleans(), probabilities, probabilities),
            min_size=1,
            max_size=60,
        )
    )
    labels, predicted = [a[0] for a in answers], [a[1] for a in answers]
    result = scores(
        classes=NAMES[:n],
        labels=labels,
        predicted=predicted,
        in_top5=[a[2] or a[0] == a[1] for a in answers],
        confidence=[a[3] for a in answers],
        true_probability=[a[4] for a in answers],
    )
    return labels, predicted, result


def three_class_scores(**changes: object) -> Scores:
    """Six images of cat, dog and ship: four right, a cat taken for a dog, a dog taken for a cat; nothing is a ship."""
    arguments: dict[str, object] = {
        "classes": NAMES[:3],
        "labels": [0, 0, 0, 1, 1, 1],
        "predicted": [0, 0, 1, 1, 1, 0],
        "in_top5": [True] * 6,
        "confidence": [0.9] * 6,
        "true_probability": [0.9, 0.9, 0.1, 0.9, 0.9, 0.1],
    }
    return scores(**(arguments | changes))  # type: ignore[arg-type]


def test_wilson_interval_of_the_published_accuracy_is_the_one_worked_out_by_hand() -> None:
    interval = wilson(8341, 10000)
    assert interval.value == 0.8341
    assert interval.low == pytest.approx(0.8266811, abs=1e-6)
    assert interval.high == pytest.approx(0.8412623, abs=1e-6)


@given(st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_wilson_ends_are_the_shares_that_lie_z_standard_errors_from_the_observed_one(trial: tuple[int, int]) -> None:
    correct, count = trial
    interval = wilson(correct, count)
    for end in (interval.low, interval.high):
        squared_distance = (interval.value - end) ** 2
        assert squared_distance == pytest.approx(Z_95**2 * end * (1 - end) / count, abs=1e-9)


@given(st.integers(0, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_wilson_interval_contains_its_value_and_stays_within_0_and_1(trial: tuple[int, int]) -> None:
    interval = wilson(*trial)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_wilson_of_no_trials_is_everything_between_0_and_1() -> None:
    interval = wilson(0, 0)
    assert (interval.low, interval.high, interval.count) == (0.0, 1.0, 0)


@pytest.mark.parametrize(("correct", "count"), [(3, 2), (-1, 2), (1, 0)])
def test_wilson_refuses_impossible_counts(correct: int, count: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson(correct, count)


def test_confusion_matrix_has_actual_classes_as_rows() -> None:
    assert confusion_matrix([0, 0, 1], [1, 1, 0], 2) == ((0, 2), (1, 0))


@pytest.mark.parametrize(("labels", "predicted"), [([3], [0]), ([0], [3]), ([-1], [0])])
def test_confusion_matrix_refuses_a_class_that_does_not_exist(labels: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match=r"is not in 0\.\.2"):
        confusion_matrix(labels, predicted, 3)


@given(any_scores())
def test_rows_add_up_to_the_support_and_columns_to_the_predictions(drawn: tuple[list[int], list[int], Scores]) -> None:
    labels, predicted, result = drawn
    for i, score in enumerate(result.classes):
        assert sum(result.confusion[i]) == score.support == labels.count(i)
        assert sum(row[i] for row in result.confusion) == score.predicted == predicted.count(i)


@given(any_scores())
def test_the_trace_is_what_top1_and_the_classes_call_correct(drawn: tuple[list[int], list[int], Scores]) -> None:
    labels, predicted, result = drawn
    right = sum(a == b for a, b in zip(labels, predicted, strict=True))
    assert sum(result.confusion[i][i] for i in range(len(result.classes))) == right
    assert sum(score.correct for score in result.classes) == right
    assert result.top1.value == right / len(labels)


@given(any_scores())
def test_f1_lies_between_precision_and_recall(drawn: tuple[list[int], list[int], Scores]) -> None:
    for score in drawn[2].classes:
        assert (score.precision is None, score.f1 is None) == (score.predicted == 0, score.support == 0)
        if score.precision is None or score.f1 is None:
            assert not score.f1
            continue
        low, high = sorted((score.precision, score.accuracy.value))
        assert low - 1e-12 <= score.f1 <= high + 1e-12


@given(any_scores())
def test_calibration_bins_hold_every_image_once_and_the_error_is_a_share(
    drawn: tuple[list[int], list[int], Scores],
) -> None:
    result = drawn[2]
    assert len(result.calibration) == CALIBRATION_BINS
    assert sum(b.count for b in result.calibration) == result.images
    assert 0 <= result.ece <= 1


@given(any_scores())
def test_top5_is_never_below_top1_and_nll_is_finite(drawn: tuple[list[int], list[int], Scores]) -> None:
    result = drawn[2]
    assert result.top5.value >= result.top1.value
    assert 0 <= result.nll <= -math.log(SMALLEST_PROBABILITY)


@given(any_scores())
def test_most_confused_pairs_are_the_largest_entries_off_the_diagonal(
    drawn: tuple[list[int], list[int], Scores],
) -> None:
    result = drawn[2]
    mistakes = sorted(
        (count for i, row in enumerate(result.confusion) for j, count in enumerate(row) if i != j and count),
        reverse=True,
    )
    assert [pair.count for pair in result.most_confused] == mistakes[:10]


def test_perfect_answers_score_1_everywhere() -> None:
    result = three_class_scores(
        labels=[0, 1, 2], predicted=[0, 1, 2], in_top5=[True] * 3, confidence=[1.0] * 3, true_probability=[1.0] * 3
    )
    assert result.top1.value == result.top5.value == 1
    assert {(c.accuracy.value, c.precision, c.f1) for c in result.classes} == {(1.0, 1.0, 1.0)}
    assert result.nll == result.ece == 0
    assert result.most_confused == ()


def test_figures_of_a_small_case_are_those_worked_out_by_hand() -> None:
    result = three_class_scores()
    cat = result.classes[0]
    assert (cat.support, cat.predicted, cat.correct) == (3, 3, 2)
    assert (cat.accuracy.value, cat.precision, cat.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert result.nll == pytest.approx(-(4 * math.log(0.9) + 2 * math.log(0.1)) / 6)
    assert result.ece == pytest.approx(0.9 - 4 / 6)


def test_a_class_without_images_and_without_predictions_has_no_score_instead_of_one_of_0() -> None:
    ship = three_class_scores().classes[2]
    assert (ship.support, ship.predicted, ship.precision, ship.f1) == (0, 0, None, None)
    assert ship.accuracy.count == 0


def test_pairs_confused_equally_often_stay_in_class_order() -> None:
    pairs = three_class_scores().most_confused
    assert [(p.actual, p.predicted, p.count) for p in pairs] == [("cat", "dog", 1), ("dog", "cat", 1)]
    assert pairs[0].share == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("confidence", "bin_index"), [(0.0, 0), (1 / 15, 0), (0.0667, 1), (0.2, 2), (0.95, 14), (1.0, 14), (1.0000001, 14)]
)
def test_a_calibration_bin_is_open_below_and_closed_above(confidence: float, bin_index: int) -> None:
    result = three_class_scores(confidence=[confidence] * 6)
    assert [i for i, b in enumerate(result.calibration) if b.count] == [bin_index]


def test_a_probability_rounded_to_0_is_clipped() -> None:
    assert three_class_scores(true_probability=[0.0] * 6).nll == pytest.approx(-math.log(SMALLEST_PROBABILITY))


@pytest.mark.parametrize("name", ["predicted", "in_top5", "confidence", "true_probability"])
def test_sequences_of_different_length_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="differ in length"):
        three_class_scores(**{name: [0]})


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        three_class_scores(labels=[], predicted=[], in_top5=[], confidence=[], true_probability=[])
