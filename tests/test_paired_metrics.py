"""The statistics of a comparison against published figures, brute force, and what they must keep to."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetcli.metrics import Z_95, difference, holm, mcnemar, paired, wilson

# Examples of Fagerland, Lydersen and Laake (Statistical Analysis of Contingency Tables, 2017, chapter 8): only A right,
# only B right, images; mid-p, exact p; Tango's interval of B - A. The second is also in the tests of their R package.
PUBLISHED = [
    pytest.param(7, 1, 21, 0.039063, 0.070313, -0.5172, -0.0260, id="airway hyper-responsiveness, Bentur 2009"),
    pytest.param(16, 6, 161, 0.034690, 0.052479, -0.1240, -0.0054, id="complete response, Cavo 2012"),
]

counts = st.integers(0, 60).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda a: st.tuples(st.just(a), st.integers(0, n - a), st.just(n)))
)


@pytest.mark.parametrize(("only_a", "only_b", "images", "p", "p_exact", "low", "high"), PUBLISHED)
def test_published_tables_give_the_published_figures(
    only_a: int, only_b: int, images: int, p: float, p_exact: float, low: float, high: float
) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx((p, p_exact), abs=1e-6)
    found = difference(only_a, only_b, images)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == (only_b - only_a) / images


@pytest.mark.parametrize("throws", range(1, 13))
def test_mcnemar_is_what_counting_all_throws_of_a_coin_gives(throws: int) -> None:
    heads = [sum(outcome) for outcome in itertools.product((0, 1), repeat=throws)]
    for only_a in range(throws + 1):
        extreme = abs(2 * only_a - throws)
        more = sum(abs(2 * h - throws) > extreme for h in heads) / 2**throws
        equal = sum(abs(2 * h - throws) == extreme for h in heads) / 2**throws
        assert mcnemar(only_a, throws - only_a) == pytest.approx((more + equal / 2, more + equal), abs=1e-15)


def test_mcnemar_of_nothing_that_differs_is_1() -> None:
    assert mcnemar(0, 0) == (1.0, 1.0)


def test_mcnemar_of_very_many_images_is_neither_an_overflow_nor_more_than_1() -> None:
    assert mcnemar(30_000, 30_000)[0] == pytest.approx(1, abs=2e-3)
    assert 0 < mcnemar(10_000, 9_000)[0] < 1e-12
    assert mcnemar(50_000, 0) == (0.0, 0.0)  # 2 ** -49,999 is no float


@given(st.integers(0, 80), st.integers(0, 80))
def test_the_mid_p_lies_below_the_exact_one_and_neither_knows_the_order(only_a: int, only_b: int) -> None:
    p, p_exact = mcnemar(only_a, only_b)
    assert 0 < p <= p_exact <= 1
    assert mcnemar(only_b, only_a) == (p, p_exact)


@given(counts)
def test_a_difference_lies_in_its_interval_and_turns_round_with_its_sides(trial: tuple[int, int, int]) -> None:
    only_a, only_b, images = trial
    found, turned = difference(only_a, only_b, images), difference(only_b, only_a, images)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (-turned.high, -turned.value, -turned.low) == pytest.approx((found.low, found.value, found.high), abs=1e-12)


@given(counts)
def test_the_interval_leaves_out_0_exactly_where_mcnemars_chi_square_does(trial: tuple[int, int, int]) -> None:
    only_a, only_b, images = trial
    found = difference(only_a, only_b, images)
    assert (not found.low <= 0 <= found.high) == ((only_a - only_b) ** 2 > Z_95**2 * (only_a + only_b))


@pytest.mark.parametrize(("only_a", "only_b", "images"), [(7, 1, 21), (3, 40, 100), (12, 12, 30), (1, 2, 500)])
def test_the_ends_lie_z_standard_errors_off_at_the_likeliest_shares(only_a: int, only_b: int, images: int) -> None:
    found = difference(only_a, only_b, images)
    for d in (found.low, found.high):

        def likelihood(q: float, d: float = d) -> float:
            cells = ((only_a, q), (only_b, q + d), (images - only_a - only_b, 1 - 2 * q - d))
            return sum(count * math.log(share) for count, share in cells)

        low, high = max(0.0, -d), (1 - d) / 2
        for _ in range(200):  # ternary search
            left, right = low + (high - low) / 3, high - (high - low) / 3
            low, high = (left, high) if likelihood(left) < likelihood(right) else (low, right)
        variance = images * (2 * low + d - d * d)
        assert (only_b - only_a - images * d) ** 2 == pytest.approx(Z_95**2 * variance, rel=1e-5)


@pytest.mark.parametrize(("share_a", "share_b"), [(0.1, 0.1), (0.05, 0.2), (0.02, 0.1)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(share_a: float, share_b: float) -> None:
    images, covered = 60, 0.0
    for only_a in range(images + 1):
        for only_b in range(images - only_a + 1):
            rest = images - only_a - only_b
            chance = (
                math.comb(images, only_a)
                * math.comb(images - only_a, only_b)
                * share_a**only_a
                * share_b**only_b
                * (1 - share_a - share_b) ** rest
            )
            if chance > 1e-9:
                found = difference(only_a, only_b, images)
                covered += chance * (found.low <= share_b - share_a <= found.high)
    assert 0.93 < covered < 0.97  # an approximation, and at 60 images a coarse one


def test_an_interval_has_a_width_even_where_nothing_differs() -> None:
    found = difference(0, 0, 500)
    assert (-found.low, found.high) == pytest.approx((Z_95**2 / (500 + Z_95**2),) * 2)


def test_no_images_tell_nothing_and_impossible_ones_are_refused() -> None:
    assert (difference(0, 0, 0).low, difference(0, 0, 0).high) == (-1.0, 1.0)
    for trial in ((3, 3, 5), (-1, 0, 5), (0, -1, 5)):
        with pytest.raises(ValueError, match="impossible"):
            difference(*trial)


def test_holm_of_a_case_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_nor_changes_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    for (before, after), (other, other_after) in itertools.product(zip(p, adjusted, strict=True), repeat=2):
        assert before <= after <= min(1.0, len(p) * before) or after == pytest.approx(max(adjusted))
        assert before > other or after <= other_after
    assert min(adjusted) == min(1.0, len(p) * min(p))


answers = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=40)


@given(answers)
def test_the_four_cells_and_the_classes_add_up(triples: list[tuple[int, int, int]]) -> None:
    labels, a, b = map(list, zip(*triples, strict=True))
    result = paired(classes=("cat", "dog", "ship"), labels=labels, a=a, b=b)
    assert result.images == len(labels) == sum(c.support for c in result.classes)
    assert result.both_right + result.only_a + result.only_b + result.both_wrong == result.images
    assert result.only_a == sum(x == y != z for y, x, z in triples) == sum(c.only_a for c in result.classes)
    assert result.only_b == sum(z == y != x for y, x, z in triples) == sum(c.only_b for c in result.classes)
    right_a, right_b = (sum(x == y for x, y in zip(side, labels, strict=True)) for side in (a, b))
    assert (result.both_right + result.only_a, result.both_right + result.only_b) == (right_a, right_b)
    assert result.difference.value == pytest.approx((right_b - right_a) / len(labels))
    for number, row in enumerate(result.classes):
        assert row.a == wilson(sum(x == y == number for y, x, _ in triples), row.support)
        assert row.p <= row.p_holm <= 1


def test_who_is_better_is_said_only_where_test_and_interval_agree() -> None:
    def better(only_a: int, only_b: int) -> str | None:
        labels = [0] * 100
        a = [0] * only_a + [1] * only_b + [0] * (100 - only_a - only_b)
        b = [1] * only_a + [0] * only_b + [0] * (100 - only_a - only_b)
        return paired(classes=("cat", "dog"), labels=labels, a=a, b=b).better

    assert (better(2, 12), better(12, 2), better(7, 8), better(0, 0)) == ("B", "A", None, None)
    assert mcnemar(0, 5)[0] < 0.05  # and its interval leaves out 0 too
    assert better(0, 5) == "B"
    assert mcnemar(0, 4)[0] > 0.05
    assert difference(0, 4, 100).low > 0  # the interval alone would call it
    assert better(0, 4) is None


def test_a_class_without_images_makes_no_other_test_harder() -> None:
    labels, a, b = [0] * 20 + [1] * 20, [0] * 40, [0] * 20 + [1] * 20
    result = paired(classes=("cat", "dog", "ship"), labels=labels, a=a, b=b)
    assert [c.p_holm for c in result.classes] == [1.0, 2 * mcnemar(0, 20)[0], 1.0]


def test_no_images_and_sequences_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        paired(classes=("cat",), labels=[], a=[], b=[])
    with pytest.raises(ValueError, match="shorter"):
        paired(classes=("cat",), labels=[0, 0], a=[0, 0], b=[0])
