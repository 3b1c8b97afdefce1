"""Pictures in a terminal, and words where there can be none."""

from __future__ import annotations

import re

import pytest

from resnetcli.reporting import tables
from resnetcli.reporting.thumbnails import LARGE, MOST_LARGE, SMALL, Thumbnails
from resnetcli.results.data import DataShowResult
from tests.golden import drawn

Image = list[list[list[int]]]


def image(upper: list[int], lower: list[int]) -> Image:
    """32 x 32 pixels: lines of one colour and lines of another by turns."""
    return [[upper if y % 2 == 0 else lower] * 32 for y in range(32)]


@pytest.fixture
def truecolor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("truecolor")
def test_a_character_shows_one_pixel_above_another() -> None:
    text = drawn(Thumbnails([image([10, 20, 30], [40, 50, 60])], ["cat"], LARGE, instead="no"), terminal=True)
    assert "\x1b[38;2;10;20;30;48;2;40;50;60m▀" in text
    assert text.count("▀") == LARGE * LARGE // 2


@pytest.mark.usefixtures("truecolor")
def test_a_small_picture_shows_the_mean_of_four_pixels() -> None:
    text = drawn(Thumbnails([image([10, 20, 30], [40, 50, 60])], ["cat"], SMALL, instead="no"), terminal=True)
    assert "\x1b[38;2;25;35;45;48;2;25;35;45m▀" in text
    assert text.count("▀") == SMALL * SMALL // 2


@pytest.mark.usefixtures("truecolor")
@pytest.mark.parametrize(("count", "pixels"), [(MOST_LARGE, LARGE), (MOST_LARGE + 1, SMALL)])
def test_many_pictures_are_drawn_small(count: int, pixels: int) -> None:
    text = drawn(Thumbnails([image([0, 0, 0], [9, 9, 9])] * count, ["cat"] * count, instead="no"), terminal=True)
    assert text.count("▀") == count * pixels * pixels // 2


@pytest.mark.usefixtures("truecolor")
def test_names_stand_under_their_pictures_and_are_cut_to_their_width() -> None:
    names = ["cat", "a name that is far too long for it"]
    lines = drawn(Thumbnails([image([0, 0, 0], [9, 9, 9])] * 2, names, SMALL, instead="no"), terminal=True).split("\n")
    assert lines[-2] == "      cat         a name that is f"


@pytest.mark.parametrize(
    ("environment", "encoding", "terminal"),
    [({}, "utf-8", False), ({"NO_COLOR": "1"}, "utf-8", True), ({"TERM": "dumb"}, "utf-8", True), ({}, "ascii", True)],
)
def test_without_colours_or_utf8_there_are_words_instead(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], encoding: str, terminal: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    many = 60
    labels = ("cat",) * many + ("dog",)
    result = DataShowResult(data="cifar10", split="train", labels=labels, indices=tuple(range(100, 101 + many)))
    text = drawn(tables.images(result, [image([0, 0, 0], [9, 9, 9])] * (many + 1)), encoding, terminal)
    assert "Pictures need a terminal with 256 colours" in text
    assert "--output FILE.png" in text
    assert "▀" not in text
    cells = [line.replace("|", " ").split() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")]
    assert [line[:4] for line in cells[3:5]] == [["cat", "60", "100,", "101,"], ["dog", "1", "160"]]
    assert len(text.split("\n")) <= 8


def test_images_without_names_are_refused() -> None:
    with pytest.raises(ValueError, match="1 images but 0 names"):
        Thumbnails([image([0, 0, 0], [9, 9, 9])], [], instead="no")


def test_the_report_of_data_show_names_data_and_file() -> None:
    result = DataShowResult(data="cifar10", split="train", labels=("cat",), indices=(3,), written="grid.png")
    text = drawn(tables.images(result, [image([0, 0, 0], [9, 9, 9])]))
    assert text.startswith("cifar10, train split\n")
    assert text.endswith("wrote grid.png\n")
    assert "--output" not in text
