"""The heat map can be read on a light terminal as on a dark one, with few colours and with none."""

from __future__ import annotations

import re

import pytest
from rich.color import Color

from resnetcli.reporting.heatmap import RIGHT, RIGHT_OF_16, WRONG, WRONG_OF_16, ConfusionHeatmap
from tests.golden import drawn
from tests.reporting.examples import ten_class_scores

SCORES = ten_class_scores()
FILLED = re.compile(r"\x1b\[(?:1;)?38;5;16;48;5;(\d+)m")


def luminance(number: int) -> float:
    """Relative luminance (WCAG 2) of one of the 256 colours."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in Color.from_ansi(number).get_truecolor())
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_cells_stand_out_from_black_and_from_white_and_their_digits_from_them() -> None:
    text = drawn(ConfusionHeatmap(SCORES), terminal=True)
    fills = {int(number) for number in FILLED.findall(text)}
    assert len(fills) == len(RIGHT) + len(WRONG) - 1  # no class has less than half of its images right
    for number in fills:
        assert number >= 16  # below are colours that themes change
        assert contrast(luminance(number), luminance(16)) > 5.5  # digits are black, and so may be what is around
        assert contrast(luminance(number), 1.0) > 2
    others = FILLED.sub("", text)
    assert not re.search(r"\x1b\[[\d;]*(3[0-8]|4[0-8]|9\d|10\d)[;m]", others)  # all else has the terminal's own colours


def test_more_colours_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_256 = drawn(ConfusionHeatmap(SCORES), terminal=True)
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert drawn(ConfusionHeatmap(SCORES), terminal=True) == with_256


def test_sixteen_colours_are_chosen_not_rounded_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    codes = set(re.findall(r"\x1b\[((?:1;)?\d\d;\d\d)m", drawn(ConfusionHeatmap(SCORES), terminal=True)))
    assert {code.removeprefix("1;") for code in codes} == {"97;44", "30;43", "97;41"}


@pytest.mark.parametrize("shades", [RIGHT, WRONG, RIGHT_OF_16, WRONG_OF_16])
def test_a_larger_share_has_a_later_shade(shades: tuple[tuple[float, str], ...]) -> None:
    begins, names = zip(*shades, strict=True)
    assert list(begins) == sorted(set(begins))
    assert len(set(names)) == len(names)


def test_a_cell_has_the_shade_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = drawn(ConfusionHeatmap(SCORES), terminal=True)
    row = SCORES.confusion[3]
    assert row[5] / sum(row) >= 0.2
    assert 0.5 <= row[3] / sum(row) < 0.7
    assert f"38;5;16;48;5;202m{row[5]: >6} " in text
    assert f"1;38;5;16;48;5;110m{row[3]: >6} " in text
