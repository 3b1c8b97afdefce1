"""Files that other programs read."""

from __future__ import annotations

import csv
import io
import json

import pytest

from resnetcli.metrics import scores
from resnetcli.reporting import files
from resnetcli.results.evaluate import Answer
from resnetcli.results.predict import Guess, Prediction
from tests.reporting.examples import CLASSES, compare_result, evaluate_result, history, predict_result, ten_class_scores


def rows(text: str) -> list[dict[str, str]]:
    assert text.endswith("\n")
    assert "\r" not in text
    return list(csv.DictReader(io.StringIO(text)))


def test_per_class_csv_has_every_class_with_numbers_that_parse_back() -> None:
    of = ten_class_scores()
    for row, score in zip(rows(files.per_class_csv(of)), of.classes, strict=True):
        assert row["class"] == score.name
        assert int(row["support"]) == score.support
        assert float(row["accuracy"]) == score.accuracy.value
        assert float(row["low"]) == score.accuracy.low
        assert float(row["high"]) == score.accuracy.high
        assert float(row["precision"]) == score.precision
        assert float(row["f1"]) == score.f1


def test_what_has_nothing_to_divide_by_is_empty_in_csv_and_null_in_json() -> None:
    answers = {"in_top5": [True] * 2, "confidence": [0.9] * 2, "true_probability": [0.9] * 2}
    of = scores(classes=["cat", "dog", "ship"], labels=[0, 1], predicted=[0, 2], **answers)
    _, dog, ship = rows(files.per_class_csv(of))
    assert (dog["accuracy"], dog["precision"], dog["f1"]) == ("0.0", "", "0.0")
    assert (ship["accuracy"], ship["low"], ship["high"], ship["precision"], ship["f1"]) == ("", "", "", "0.0", "")
    document = json.loads(files.to_json(of))["classes"]
    assert [(c["precision"], c["f1"]) for c in document] == [(1.0, 1.0), (None, 0.0), (0.0, None)]


def test_confusion_csv_is_the_matrix_with_names() -> None:
    scores = ten_class_scores()
    table = rows(files.confusion_csv(scores))
    assert [row["actual"] for row in table] == list(CLASSES)
    assert [tuple(int(row[name]) for name in CLASSES) for row in table] == list(scores.confusion)


def test_answers_csv_names_classes() -> None:
    text = files.answers_csv(ten_class_scores(), [Answer(7, 3, 5, 0.5)])
    assert rows(text) == [{"image": "7", "label": "cat", "predicted": "dog", "correct": "0", "confidence": "0.5"}]


def test_differences_csv_has_one_row_for_every_image_with_two_answers() -> None:
    result = compare_result()
    table = rows(files.differences_csv(result))
    assert len(table) == len(result.differences) > 100
    assert {row["right"] for row in table} == {"A", "B", ""}
    for row in table:
        assert row["a"] != row["b"]
        assert row["right"] == ("A" if row["a"] == row["label"] else "B" if row["b"] == row["label"] else "")
    assert [int(row["image"]) for row in table] == sorted(int(row["image"]) for row in table)


def predictions_csv(*predictions: Prediction, top_k: int = 3) -> str:
    lines = (files.prediction_csv(prediction, top_k) for prediction in predictions)
    return files.predictions_csv_header(top_k) + "".join(lines)


def test_predictions_csv_has_one_row_per_picture_whatever_happened_to_it() -> None:
    good, failed, short = rows(predictions_csv(*predict_result().predictions))
    assert (good["label_1"], float(good["probability_1"]), good["label_3"]) == ("cat", 0.8123, "deer")
    assert good["notices"] == "640×480 squeezed to 32×32"
    assert [row["strangeness"] for row in (good, failed, short)] == ["2.125", "", "9.3"]
    assert (failed["label_1"], failed["error"]) == ("", "not an image: ends after 12 bytes")
    assert (short["label_2"], short["label_3"], short["error"]) == ("frog", "", "")


def test_a_path_with_commas_quotes_and_newlines_survives_the_csv() -> None:
    path = 'a,"b"\nc.png'
    assert rows(predictions_csv(Prediction(path=path, error="no")))[0]["path"] == path


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_no_name_is_a_formula_to_a_spreadsheet(name: str) -> None:
    """Paths name the same file as before; other words stand behind an apostrophe."""
    guesses = (Guess(label=name, probability=1.0),)
    text = predictions_csv(Prediction(path=name, guesses=guesses, error=name))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["path"], row["label_1"], row["error"]) == (f"./{name}", f"'{name}", f"'{name}")
    of = ten_class_scores()
    classes = (of.classes[0].model_copy(update={"name": name}), *of.classes[1:])
    named = of.model_copy(update={"classes": classes})
    for text in (files.per_class_csv(named), files.confusion_csv(named)):
        assert [line[0] for line in csv.reader(io.StringIO(text, newline=""))][1] == f"'{name}"
    assert next(csv.reader(io.StringIO(files.confusion_csv(named), newline="")))[1] == f"'{name}"


def test_what_is_no_formula_stays_as_it_is() -> None:
    (row,) = rows(predictions_csv(Prediction(path="-", guesses=(Guess(label="a=b", probability=1e-9),))))
    assert (row["path"], row["label_1"], row["probability_1"]) == ("-", "a=b", "1e-09")


def test_a_file_name_that_is_not_unicode_can_be_written_as_utf8() -> None:
    prediction = Prediction(path="caf\udce9.png", guesses=(Guess(label="cat", probability=1.0),))
    assert b"caf\\udce9.png" in predictions_csv(prediction).encode("utf-8")
    result = predict_result().model_copy(update={"predictions": (prediction,)})
    assert json.loads(files.to_json(result))["predictions"][0]["path"] == "caf\udce9.png"


def test_json_is_one_indented_ascii_document_that_reads_back_as_the_result() -> None:
    result = evaluate_result()
    text = files.to_json(result)
    assert text.startswith('{\n  "schema_version": 2,')
    assert text.endswith("}\n")
    assert text.isascii()
    assert type(result).model_validate_json(text) == result


def test_json_has_null_for_what_is_not_a_number() -> None:
    row = history(1)[0].model_copy(update={"train_loss": float("nan"), "val_loss": float("inf")})
    document = json.loads(files.to_json_line(row), parse_constant=lambda name: f"invalid {name}")
    assert document["train_loss"] is None
    assert document["val_loss"] is None
