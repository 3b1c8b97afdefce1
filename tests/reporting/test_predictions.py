"""The table of `predict`: on terminals of all widths, and where nothing may be cut off."""

from __future__ import annotations

import re

import pytest

from resnetcli.reporting import tables
from resnetcli.results.predict import Guess, NoticeKind, Prediction, PredictResult
from tests.golden import drawn
from tests.reporting.examples import predict_result

LONG = "/home/somebody/pictures/holidays in the mountains/2024/a rather long name of a photo.jpg"
RESIZED = "centre-cropped to square from 4032×3024, then resized to 32×32"


def prediction(path: str = "a.png", probability: float = 0.8, strangeness: float = 1.0) -> Prediction:
    names = ("automobile", "airplane", "horse")
    values = (probability, 0.9 * (1 - probability), 0.1 * (1 - probability))
    guesses = tuple(Guess(label=name, probability=p) for name, p in zip(names, values, strict=True))
    kinds: list[NoticeKind] = ["cropped"]
    notices = [RESIZED]
    if strangeness > 4.5:
        kinds.append("out_of_distribution")
        notices.append("looks unlike the validation images (strangeness 9.0, …): the answer may mean nothing")
    return Prediction(
        path=path, guesses=guesses, strangeness=strangeness, notices=tuple(notices), notice_kinds=tuple(kinds)
    )


def table(*predictions: Prediction, **changes: object) -> tables.predictions:
    failed = sum(p.error is not None for p in predictions)
    counts = {"predictions": predictions, "pictures": len(predictions), "failed": failed}
    return tables.predictions(predict_result().model_copy(update={**counts, **changes}))


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 100, 200])
def test_a_line_fits_the_terminal_and_no_number_is_broken(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    error = f"{LONG}: not an image in a known format (PNG, JPEG, WebP, GIF, BMP, TIFF, …)"
    rows = [prediction(LONG), prediction("目" * 60, 0.15, 9.0), Prediction(path=LONG, error=error)]
    lines = re.sub(r"\x1b\[[0-9;]*m", "", drawn(table(*rows), terminal=True)).split("\n")
    assert all(len(line.encode("utf-16-le")) // 2 + line.count("目") <= columns for line in lines)
    answers = [line for line in lines if "automobile" in line]
    assert "80.0 %" in answers[0]
    assert "15.0 % !" in answers[1]
    body = lines[: next(i for i, line in enumerate(lines) if "classified" in line)]
    assert not any(re.search(r"[\d.,]$|^\s*[\d%]", line) and not line.rstrip().endswith(",") for line in body)
    assert sum("photo.jpg" in line for line in lines) <= 2  # not once more in the reason


def test_at_80_columns_a_picture_takes_a_line_or_two_and_resizing_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = drawn(table(*[prediction(f"{LONG}{i}") for i in range(20)]), terminal=True).rstrip("\n").split("\n")
    assert len(lines) == 2 + 2 * 20 + 2 + 1  # header and rule, pictures, the summary in two lines, the resizing
    assert "20 cropped to the middle square and resized to 32×32" in lines[-1]
    short = drawn(table(*[prediction(f"photo-{i}.jpg") for i in range(20)]), terminal=True).rstrip("\n").split("\n")
    assert len(short) == 2 + 20 + 3


@pytest.mark.parametrize("columns", ["40", "80", ""])
def test_nothing_is_cut_off_or_broken_in_a_pipe(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    error = "cannot be decoded:" + " a long reason" * 20
    lines = drawn(table(prediction(LONG * 5), Prediction(path="b.png", error=f"b.png: {error}"))).split("\n")
    answer = next(line for line in lines if line.startswith(LONG * 5))
    assert answer.split() == [*(LONG * 5).split(), "automobile", "████████", "80.0", "%", *OTHERS]
    assert f"  {error}" in lines
    assert "…" not in "".join(lines)


OTHERS = ["airplane", "18.0", "%,", "horse", "2.0", "%"]


def test_only_a_picture_unlike_all_others_is_orange_and_it_is_marked_without_colour_too() -> None:
    plain, strange = drawn(table(prediction()), terminal=True), drawn(table(prediction(strangeness=9.0)), terminal=True)
    assert "\x1b[33m" not in plain
    assert "!" not in plain
    assert "\x1b[33m" in strange
    in_pipe = drawn(table(prediction(), prediction("b.png", strangeness=9.0)))
    assert [line[:5] for line in in_pipe.split("\n") if "% !" in line] == ["b.png"]
    footer = "! 1 answer may mean nothing: a picture unlike those the checkpoint knows (strangeness over 4.5)"
    assert footer in in_pipe.split("\n")


def test_a_guess_does_not_look_like_a_sure_answer() -> None:
    looks = [
        re.search(r"(\x1b\[[\d;]*m)?automobile", drawn(table(prediction(probability=p)), terminal=True))
        for p in (0.15, 0.7, 0.99)
    ]
    assert [look and look.group(1) for look in looks] == ["\x1b[2m", None, "\x1b[1m"]
    bars = [drawn(table(prediction(probability=p))).count("█") for p in (0.15, 0.7, 0.99)]
    assert bars == [1, 7, 9]


def test_a_single_picture_has_its_notices_word_for_word() -> None:
    assert RESIZED in drawn(table(prediction())).split("\n")


def test_what_was_done_is_counted_by_kind() -> None:
    kinds: tuple[NoticeKind, ...] = ("upright", "resized")
    turned = prediction().model_copy(update={"notices": ("a", "b"), "notice_kinds": kinds})
    footer = "1 cropped to the middle square and resized to 32×32; 2 resized to 32×32; 2 turned upright"
    assert footer in drawn(table(prediction(), turned, turned)).split("\n")


def test_names_are_shown_on_one_line_and_bytes_that_are_no_text_as_what_they_are() -> None:
    text = drawn(table(prediction("caf\udce9\n.png"), Prediction(path="\udcff", error="\udcff: no such file")))
    assert "caf\\xe9\\x0a.png   automobile" in text
    assert "\n\\xff " in text
    assert "\n  no such file\n" in text


def test_an_interrupted_table_says_so() -> None:
    assert "1 picture classified with runs/fast-1" in drawn(table(prediction(), interrupted=True))
    assert "; interrupted before the others" in drawn(table(prediction(), interrupted=True))
    assert "interrupted" not in drawn(table(prediction()))


def test_a_list_of_failures_has_no_empty_columns() -> None:
    result: PredictResult = predict_result().model_copy(
        update={"predictions": (Prediction(path="a.png", error="a.png: no such file"),), "pictures": 1, "failed": 1}
    )
    assert drawn(tables.predictions(result)).split("\n")[0] == "picture   top guess"
