"""Numbers as people read them."""

from __future__ import annotations

import pytest

from resnetcli.metrics import wilson
from resnetcli.reporting import text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0 ms"),
        (0.0854, "85 ms"),
        (0.9999, "1.0 s"),
        (3.21, "3.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
        (151, "2m 31s"),
        (3599.9, "1h 00m"),
        (3725, "1h 02m"),
        (86400 * 3 + 3600 * 4, "3d 04h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (184_380_000, "175.8 MiB"), (3 * 2**40, "3,072.0 GiB")],
)
def test_sizes(bytes_: int, expected: str) -> None:
    assert text.size(bytes_) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(10, "10"), (9_999, "9,999"), (10_240, "10.2 k"), (59_164_736, "59.16 M"), (2e9, "2.00 G")]
)
def test_large_counts(number: int, expected: str) -> None:
    assert text.millions(number) == expected


def test_an_interval_is_written_as_its_ends() -> None:
    assert text.interval(wilson(8341, 10_000)) == "82.67–84.13 %"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.012, "+1.20"), (-0.003, "-0.30"), (0.0, "0.00"), (-0.000_01, "0.00"), (1.0, "+100.00")]
)
def test_a_difference_has_its_sign_unless_it_is_rounded_to_0(share: float, expected: str) -> None:
    assert text.points(share) == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1.0, "p = 1.00"),
        (0.42, "p = 0.42"),
        (0.0496, "p = 0.050"),
        (0.0034, "p = 0.003"),
        (0.00031, "p = 0.0003"),
        (0.00002, "p = 2e-05"),
        (4.2e-21, "p = 4e-21"),
        (0.0, "p < 1e-300"),
    ],
)
def test_a_p_value_reads_well_however_small_it_is(p: float, expected: str) -> None:
    assert text.p_value(p) == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, "    "), (0.5, "██  "), (0.53125, "██▏ "), (1.0, "████"), (1.7, "████"), (-1.0, "    ")],
)
def test_a_bar_is_filled_to_its_share_and_always_as_wide(share: float, expected: str) -> None:
    assert text.bar(share, 4) == expected


def test_a_sparkline_spans_the_least_and_the_greatest_value() -> None:
    assert text.sparkline([1.0, 2.0, 8.0]) == "▁▂█"


def test_a_sparkline_of_one_value_repeated_is_flat() -> None:
    assert text.sparkline([5.0, 5.0]) == "▁▁"


def test_a_sparkline_leaves_a_gap_for_what_is_missing_or_not_finite() -> None:
    assert text.sparkline([1.0, None, float("nan"), float("inf"), 2.0]) == "▁   █"


def test_a_sparkline_of_nothing_is_empty() -> None:
    assert text.sparkline([None, float("nan")]) == ""


def test_a_long_series_is_thinned_and_keeps_its_last_value() -> None:
    line = text.sparkline([*([0.0] * 99), 1.0], width=10)
    assert len(line) == 10
    assert line[-1] == "█"


def test_of_a_long_path_the_end_is_kept() -> None:
    assert text.ending("a/cat.png", 9) == "a/cat.png"
    assert text.ending("folder/cat.png", 9) == "…/cat.png"


def test_only_what_can_be_seen_and_is_no_order_to_the_terminal_is_shown() -> None:
    unseen = ["\x1b", "\x07", "\r", "\t", "\x7f", "\x9b", "\u061c", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029"]
    unseen += ["\u202a", "\u202e", "\u2060", "\u2066", "\u2069", "\ufeff", "\ufff9", "\U000e0001", "\U000e0041"]
    for character in unseen:
        assert text.visible(f"a{character}b") == "a?b", f"U+{ord(character):04X}"
    for seen in ("a\nb", "zażółć 猫 🐈", "👩\u200d🔬", "می\u200cخواهم", "\u0600", "e\u0301", "\ufe0f"):
        assert text.visible(seen) == seen
