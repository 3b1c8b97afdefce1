"""Reports of every command, against golden files and in surroundings that leave little room."""

from __future__ import annotations

import re

import pytest
from rich.console import RenderableType

from resnetcli.metrics import scores
from resnetcli.reporting import tables
from resnetcli.reporting.compare_view import verdict
from resnetcli.reporting.heatmap import ConfusionHeatmap
from resnetcli.reporting.inspect_view import inspect_tree
from resnetcli.reporting.scores_view import most_confused_table, per_class_table
from resnetcli.reporting.train_view import ROWS_SHOWN, history_table
from resnetcli.results.checkpoints import CheckpointsResult
from resnetcli.results.compare import Paired
from resnetcli.results.evaluate import Scores
from resnetcli.results.train import EpochRate
from tests.golden import assert_golden, drawn
from tests.reporting.examples import (
    CLASSES,
    bench_result,
    checkpoints_result,
    compare_result,
    data_result,
    dry_run_result,
    evaluate_result,
    history,
    inspect_result,
    predict_result,
    replay_result,
    ten_class_scores,
    train_result,
)

REPORT_FILES = (
    *("calibration.png", "confusion.csv", "confusion.png", "history.png"),
    *("per_class.csv", "predictions.csv", "report.json"),
)
REPORTS: dict[str, RenderableType] = {
    "evaluate": tables.evaluation(evaluate_result(("report/report.json", "report/confusion.png"))),
    "compare": tables.comparison(compare_result(("report/report.json", "report/differences.csv")), 6),
    "inspect": tables.network(inspect_result(), 2),
    "checkpoints": tables.checkpoints(checkpoints_result()),
    "replay": tables.checkpoints(replay_result()),
    "replay-different": tables.checkpoints(replay_result(equal=False)),
    "predict": tables.predictions(predict_result()),
    "dry_run": tables.dry_run(dry_run_result()),
    "data": tables.data(data_result()),
    "bench-train": tables.bench(bench_result()),
    "bench-infer": tables.bench(bench_result("bench infer")),
    "train": tables.training(train_result(), report=REPORT_FILES),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_in_a_pipe_is_the_golden_one(name: str) -> None:
    assert_golden(name, drawn(REPORTS[name]))


@pytest.mark.parametrize("columns", [60, 200])
def test_a_report_follows_the_width(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert_golden(f"evaluate-{columns}", drawn(REPORTS["evaluate"]))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_has_ascii_glyphs_only_where_the_stream_is_not_utf8(name: str, encoding: str) -> None:
    assert drawn(REPORTS[name], encoding).replace("ö", "o").isascii()


def test_an_ascii_report_is_the_golden_one() -> None:
    assert_golden("evaluate-ascii", drawn(REPORTS["evaluate"], "ascii"))


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_says_the_same_without_colour_as_with_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    without = drawn(REPORTS[name], terminal=True)
    monkeypatch.delenv("NO_COLOR")
    with_colour = drawn(REPORTS[name], terminal=True)
    assert _stripped(without) == _stripped(with_colour) == drawn(REPORTS[name])


def test_the_verdict_says_who_is_better_by_how_much_and_how_sure_that_is() -> None:
    line = drawn(verdict(compare_result())).strip()
    swapped = compare_result().model_copy(update={"paired": _mirrored(compare_result().paired)})
    assert re.fullmatch(r"B is better by 0\.\d\d points \(0\.\d\d to 0\.\d\d\), p = \S+\.", line)
    assert drawn(verdict(swapped)).strip() == line.replace("B is", "A is")


def test_the_verdict_of_a_difference_that_may_be_chance_has_its_sign_and_claims_nothing() -> None:
    line = drawn(verdict(compare_result(gain=0.8))).strip()
    words, _, figures = line.partition(": ")
    assert words == "No difference that 10,000 images can show"
    assert re.fullmatch(r"B − A is [+-]0\.\d\d points \(-0\.\d\d to \+0\.\d\d\), p = 0\.\d+\.", figures)


def test_the_verdict_warns_where_the_better_one_may_know_the_images() -> None:
    text = " ".join(drawn(verdict(compare_result(may_have_seen=True))).split())
    assert text.endswith("But B may have been trained on these images.")


def test_the_verdict_of_equal_answers_says_so() -> None:
    same = compare_result().model_copy(update={"differences": ()})
    assert drawn(verdict(same)) == "No difference: A and B give the same answer to all 10,000 images.\n"


@pytest.mark.parametrize(("show", "rows"), [(0, 0), (3, 3), (10_000, None)])
def test_as_many_differing_images_are_listed_as_were_asked_for(show: int, rows: int | None) -> None:
    result = compare_result()
    total = len(result.differences)
    report = drawn(tables.comparison(result, show))
    listed = report.partition("Images with different answers")[2]
    lines = [line for line in listed.split("\n")[1:] if line.strip()[:1].isdigit()]
    assert len(lines) == (total if rows is None else rows)
    assert (f"the first 3 of {total:,}" in report) == ("--output FOLDER" in report) == (rows == 3)


@pytest.mark.parametrize(("columns", "kept"), [(100, "images"), (88, "only B"), (70, "interval"), (52, "p")])
def test_a_narrow_comparison_loses_columns_but_never_half_a_number(
    monkeypatch: pytest.MonkeyPatch, columns: int, kept: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = drawn(REPORTS["compare"]).partition("Classes, from")[2].partition("p: McNemar")[0]
    assert "…" not in table
    header = table.split("\n")[1]
    assert header.split()[-1] == kept.split()[-1]


def test_classes_come_worst_first() -> None:
    lines = drawn(per_class_table(ten_class_scores())).split("\n")
    names = [line.split()[0] for line in lines if line.split() and line.split()[0] in CLASSES]
    by_accuracy = sorted(ten_class_scores().classes, key=lambda c: c.accuracy.value)
    assert names == [c.name for c in by_accuracy]


def test_a_class_without_images_has_dashes_instead_of_figures() -> None:
    line = next(line for line in drawn(per_class_table(_two_of_three())).split("\n") if line.startswith("ship"))
    assert line.split() == ["ship", "–", "–", "0", "0.00", "%", "–"]


def test_narrow_consoles_lose_columns_but_never_half_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "46")
    text = drawn(per_class_table(ten_class_scores()))
    assert "…" not in text
    assert "precision" not in text
    assert "62.09–67.99 %" in text


def test_answers_without_a_mistake_have_no_table_of_mistakes() -> None:
    perfect = scores(
        classes=["cat", "dog"],
        labels=[0, 1],
        predicted=[0, 1],
        in_top5=[True, True],
        confidence=[1.0, 1.0],
        true_probability=[1.0, 1.0],
    )
    assert drawn(most_confused_table(perfect)) == "No image was taken for another class.\n"
    assert drawn(ConfusionHeatmap(perfect)).count("100%") == 2


def test_the_heat_map_holds_every_count_of_the_matrix() -> None:
    result = ten_class_scores()
    lines = drawn(ConfusionHeatmap(result)).split("\n")
    counts = [line.split()[1:] for line in lines if line.split() and line.split()[0] in CLASSES and "%" not in line]
    rows = [
        [0 if cell == "·" else int(cell) for cell in row] for row in counts if all(c == "·" or c.isdigit() for c in row)
    ]
    assert [tuple(row) for row in rows] == list(result.confusion)


def test_a_heat_map_without_room_says_where_the_matrix_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    text = drawn(ConfusionHeatmap(ten_class_scores()))
    assert "10 classes need 55 columns" in " ".join(text.split())
    assert "confusion.csv" in text


@pytest.mark.parametrize(("depth", "shown"), [(0, 1), (1, 4), (2, 8), (None, 9)])
def test_the_layer_tree_ends_at_its_depth(depth: int | None, shown: int) -> None:
    table = drawn(inspect_tree(inspect_result(), depth)).split("╭")[0]
    rows = [line for line in table.split("\n")[3:] if "×" in line]
    assert len(rows) == shown
    assert ("not shown (--depth)" in table) == (shown < 9)


def test_macs_and_flops_are_both_named() -> None:
    text = drawn(tables.network(inspect_result(), 1))
    assert "59,174,976 multiply-accumulates per image" in text
    assert "118,349,952 per image (2 × MACs)" in text
    assert "8,872,512 trainable, 10,250 not" in text


def test_a_failed_picture_keeps_its_reason_and_the_others_their_answers() -> None:
    text = drawn(REPORTS["predict"])
    assert "not an image: ends after 12 bytes" in text
    assert "pictures/[red]cat.jpg" in text
    assert "2 pictures classified with runs/fast-1" in text
    assert "1 failed" in text


def test_a_long_history_shows_its_first_and_its_last_epochs() -> None:
    lines = drawn(history_table(history(100))).split("\n")
    epochs = [line.split()[0] for line in lines[3:] if line.strip()]
    assert epochs == ["1", "…", *(str(epoch) for epoch in range(102 - ROWS_SHOWN, 101))]


def test_a_final_run_has_dashes_for_what_was_not_validated() -> None:
    rows = tuple(row.model_copy(update={"val_loss": None, "val_top1": None}) for row in history(2))
    text = drawn(history_table(rows))
    assert text.count("–") == 4
    assert "★" not in text


def test_the_end_of_a_run_says_why_there_is_no_temperature_where_one_could_have_been_fitted() -> None:
    result = train_result()
    bare = evaluate_result().model_copy(update={"temperature": None, "uncalibrated": None})
    without = result.model_copy(update={"measured": bare})
    final = without.model_copy(
        update={"history": tuple(row.model_copy(update={"val_loss": None, "val_top1": None}) for row in result.history)}
    )
    note = "temperature  none: validation images held out of its fit do not gain by one"
    assert note in drawn(tables.training(without))
    for other in (result, final, without.model_copy(update={"measured": None})):
        assert "held out of its fit" not in drawn(tables.training(other))


@pytest.mark.parametrize(
    ("shown", "title", "rows"), [((), "Epochs", [1, 2, 3, 4, 5]), ((3, 4, 5), "Epochs before", [1, 2])]
)
def test_epochs_that_had_a_line_in_the_same_place_get_no_other(
    shown: tuple[int, ...], title: str, rows: list[int]
) -> None:
    lines = drawn(tables.training(train_result(), shown=shown)).split("\n")
    assert lines[0].strip() == title
    assert [int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdecimal()] == rows


def test_where_all_epochs_had_a_line_the_summary_has_none_but_names_the_best() -> None:
    text = drawn(tables.training(train_result(), shown=range(1, 6)))
    assert "Epochs" not in text
    assert "2.1000 → 0.6807" in text
    assert re.search(r"^best +epoch 5, top-1 77.00 % on the validation images *$", text, re.MULTILINE)


def test_the_summary_names_the_report_folder_and_what_is_in_it() -> None:
    text = drawn(tables.training(train_result(), report=("history.png", "report.json")))
    assert re.search(
        r"^report +runs/fast-1/report *\npictures +history.png *\ntables +report.json *$", text, re.MULTILINE
    )
    assert "/report" not in drawn(tables.training(train_result()))


def test_the_summary_of_a_run_ends_with_commands_that_a_shell_takes() -> None:
    result = train_result().model_copy(update={"run_dir": "runs/my run"})
    text = drawn(tables.training(result))
    assert "resnetcli evaluate 'runs/my run'" in text
    assert "--checkpoint 'runs/my run'" in text


def test_a_run_stopped_before_its_first_epoch_still_has_a_summary() -> None:
    result = train_result().model_copy(update={"history": (), "measured": None, "epochs": 0, "stopped": "max_time"})
    assert "stopped by --max-time" in drawn(tables.training(result))


def test_smaller_images_are_named_beside_those_of_the_plain_loop() -> None:
    shown = drawn(tables.bench(bench_result()))
    assert "32 pixels a side; a run begins with 24, in its own row" in shown
    assert "24 px at first" in shown
    whole = drawn(tables.bench(bench_result().model_copy(update={"first_epochs": None})))
    assert "pixels a side" not in whole
    assert "at first" not in whole


def test_a_dry_run_of_an_extension_shows_the_rates_before_and_after_and_where_a_rate_was_scaled() -> None:
    rows = ((9, 0.016, 0.0081, False), (10, 0.008, 0.0001, False), (11, 0.04, 0.036, True), (20, 0.004, 4e-5, True))
    rates = tuple(EpochRate(epoch=e, first=a, last=b, extended=x) for e, a, b, x in rows)
    plain = dry_run_result()
    shown = drawn(tables.dry_run(plain.model_copy(update={"rates": rates})))
    lines = [line.split() for line in shown.splitlines()]
    assert ["10", "0.008", "0.0001"] in lines
    assert lines[lines.index(["11", "0.04", "0.036", "extended"]) + 1] == ["…"]
    assert ["20", "0.004", "4e-05", "extended"] in lines
    assert "Learning rate" not in drawn(tables.dry_run(plain))
    update = {"config": {"lr": 0.02, "batch_size": 32}, "origins": {"lr": "scaled", "batch_size": "flag"}}
    assert "recipe, scaled for batch size 32" in drawn(tables.dry_run(plain.model_copy(update=update)))


@pytest.mark.parametrize(
    ("step", "said"),
    [(0, "stretch after epoch 3, of 5 planned"), (7, "stretch after epoch 3 and 7 steps, of 5 planned")],
)
def test_an_extension_says_where_it_begins_and_how_many_epochs_had_been_planned(step: int, said: str) -> None:
    extension = {"epoch": 3, "step": step, "epochs": 5, "policy": "stretch"}
    update = {"config": {"epochs": 9, "extensions": [extension]}, "origins": {"epochs": "flag", "extensions": "flag"}}
    assert said in drawn(tables.dry_run(dry_run_result().model_copy(update=update)))


def test_a_dry_run_names_the_slower_steps_of_larger_images_where_there_are_some() -> None:
    assert "larger images" not in drawn(tables.dry_run(dry_run_result()))
    growing = dry_run_result().model_copy(update={"step_seconds": 2.0, "last_step_seconds": 3.0})
    assert "2.0 s, later, with larger images, 3.0 s" in drawn(tables.dry_run(growing))


@pytest.mark.parametrize(("columns", "columns_shown"), [(100, 6), (80, 4), (44, 2)])
def test_a_narrow_bench_keeps_speeds_and_shares(
    monkeypatch: pytest.MonkeyPatch, columns: int, columns_shown: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = drawn(REPORTS["bench-train"]).split("╭")[0]
    assert "…" not in table
    tool = next(line for line in table.split("\n") if line.startswith("resnetcli"))
    assert "1,490" in tool
    assert "59.9 %" in tool
    assert len(tool.replace(" s ", "s ").replace(" %", "%").split()) == 1 + columns_shown


def test_an_empty_list_of_checkpoints_says_so() -> None:
    assert (
        drawn(tables.checkpoints(CheckpointsResult(command="checkpoints list", checkpoints=()))) == "no checkpoints\n"
    )


def test_a_verification_without_problems_says_so() -> None:
    result = checkpoints_result().model_copy(update={"command": "checkpoints verify", "problems": ()})
    assert "2 checkpoints intact" in drawn(tables.checkpoints(result))


def test_a_prune_names_what_it_removed() -> None:
    result = CheckpointsResult(command="checkpoints prune", checkpoints=(), removed=("runs/a/step-0000001",))
    assert drawn(tables.checkpoints(result)) == "removed runs/a/step-0000001\n"


def _two_of_three() -> Scores:
    """Cats and dogs, and a class without a single image that is predicted once."""
    return scores(
        classes=["cat", "dog", "ship"],
        labels=[0, 1, 1],
        predicted=[0, 1, 2],
        in_top5=[True] * 3,
        confidence=[0.9] * 3,
        true_probability=[0.9] * 3,
    )


def _mirrored(result: Paired) -> Paired:
    """The same comparison with A and B in each other's place, as far as the verdict reads it."""
    d = result.difference
    turned = d.model_copy(update={"value": -d.value, "low": -d.high, "high": -d.low})
    return result.model_copy(update={"difference": turned, "better": "A" if result.better == "B" else "B"})


def _stripped(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
