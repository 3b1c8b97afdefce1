"""Results as text for files: CSV that pandas reads as it is, JSON, JSON lines. Whoever calls writes them durably."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from resnetcli.results.compare import CompareResult
from resnetcli.results.evaluate import Answer, Scores
from resnetcli.results.predict import PredictResult


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


def predictions_csv(result: PredictResult) -> str:
    """One row per picture: path, then label and probability of each guess, then strangeness, notices and error
    (empty: none)."""
    ranks = max((len(p.guesses) for p in result.predictions), default=0)
    header = ["path"]
    for rank in range(1, ranks + 1):
        header += [f"label_{rank}", f"probability_{rank}"]
    rows = []
    for prediction in result.predictions:
        row: list[object] = [prediction.path]
        for guess in prediction.guesses:
            row += [guess.label, guess.probability]
        row += [""] * (1 + 2 * ranks - len(row))
        strangeness = "" if prediction.strangeness is None else prediction.strangeness
        rows.append([*row, strangeness, "; ".join(prediction.notices), prediction.error or ""])
    return _csv([*header, "strangeness", "notices", "error"], rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    # A file name that is not UTF-8 arrives with lone surrogates, which no file could take.
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: object) -> object:
    """The value with tuples as lists and infinities and NaN, which JSON does not have, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
