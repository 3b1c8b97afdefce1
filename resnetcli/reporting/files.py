"""Results as text for files: CSV that pandas reads as it is and no spreadsheet takes for formulas, JSON, JSON lines.
Whoever calls writes them durably."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from resnetcli.results.compare import CompareResult
from resnetcli.results.evaluate import Answer, Scores
from resnetcli.results.predict import Prediction


def to_json(result: BaseModel) -> str:
    """One indented JSON document in ASCII that ends with a newline; a number that is not finite becomes null."""
    return json.dumps(_plain(result.model_dump()), indent=2, allow_nan=False) + "\n"


def to_json_line(result: BaseModel) -> str:
    """The same on one line."""
    return json.dumps(_plain(result.model_dump()), allow_nan=False) + "\n"


def per_class_csv(scores: Scores) -> str:
    """One row per class, in class order: accuracy (= recall) with its interval, precision, F1 and counts; empty where
    there is nothing to divide by."""
    header = ("class", "support", "predicted", "correct", "accuracy", "low", "high", "precision", "f1")
    return _csv(
        header,
        (
            (
                c.name,
                c.support,
                c.predicted,
                c.correct,
                *((c.accuracy.value, c.accuracy.low, c.accuracy.high) if c.support else (None, None, None)),
                c.precision,
                c.f1,
            )
            for c in scores.classes
        ),
    )


def confusion_csv(scores: Scores) -> str:
    """Images by actual class (rows, named in the first column) and predicted class (columns)."""
    names = [c.name for c in scores.classes]
    return _csv(["actual", *names], ([name, *row] for name, row in zip(names, scores.confusion, strict=True)))


def answers_csv(scores: Scores, answers: Sequence[Answer]) -> str:
    """One row per image of a split: its place there, label, predicted class and the probability of the latter."""
    names = [c.name for c in scores.classes]
    return _csv(
        ("image", "label", "predicted", "correct", "confidence"),
        (
            (image, names[label], names[guess], int(label == guess), confidence)
            for image, label, guess, confidence in answers
        ),
    )


def differences_csv(result: CompareResult) -> str:
    """One row per image that A and B take for different classes: its place in the split, label, the two answers, and
    who is right (empty: neither)."""
    rows = ((d.image, d.label, d.a, d.b, d.right or "") for d in result.differences)
    return _csv(("image", "label", "a", "b", "right"), rows)


def predictions_csv_header(top_k: int) -> str:
    """The first line of a CSV file of predictions of `top_k` classes each, before the rows of the pictures."""
    ranks = (name for rank in range(1, top_k + 1) for name in (f"label_{rank}", f"probability_{rank}"))
    return _csv_lines([("path", *ranks, "strangeness", "notices", "error")])


def prediction_csv(prediction: Prediction, top_k: int) -> str:
    """One row: path, then label and probability of each guess, then strangeness, notices and error (empty: none)."""
    guesses = [value for guess in prediction.guesses for value in (guess.label, guess.probability)]
    guesses += [""] * (2 * top_k - len(guesses))
    strangeness = "" if prediction.strangeness is None else prediction.strangeness
    remarks = (strangeness, "; ".join(prediction.notices), prediction.error or "")
    return _csv_lines([(_path(prediction.path), *guesses, *remarks)])


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return _csv_lines([header, *rows])


def _csv_lines(rows: Iterable[Sequence[object]]) -> str:
    lines = []
    for row in rows:
        line = io.StringIO()
        # With "\n" for its end, Python 3.11 leaves "\r" in a name unquoted, and a reader ends the row there.
        csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in row])
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    # A file name that is not UTF-8 arrives with lone surrogates, which no file could take.
    return "".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")


def _cell(value: object) -> object:
    """The value, and words that a spreadsheet would take for a formula behind an apostrophe. Names of classes come with
    a checkpoint, from whoever made it, and `=HYPERLINK(…)` is a name as well."""
    formula = isinstance(value, str) and len(value) > 1 and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def _path(path: str) -> str:
    """The same file by a name that is no formula: `./=1.png`."""
    return f"./{path}" if _cell(path) != path else path


def _plain(value: object) -> object:
    """The value with tuples as lists and infinities and NaN, which JSON does not have, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
