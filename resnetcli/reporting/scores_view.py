"""What a measurement looks like in the terminal: overall figures, classes, mistakes."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.heatmap import ConfusionHeatmap
from resnetcli.reporting.layout import Adaptive, figures_grid, files_written, simple_table
from resnetcli.results.evaluate import EvaluateResult, Scores

BAR_WIDTH = 20
CHOSEN_BY = {
    "val": "best epoch on the validation split",
    "user": "this checkpoint, named by hand",
    "none": "last epoch, nothing chosen",
    "unknown": "unknown (the file does not say)",
}
VIEWS = {
    "flip": "the image and its mirror image",
    "shift": "the image and its mirror image, as they are and moved by a pixel",
}


def per_class_table(scores: Scores) -> Adaptive:
    """Classes, worst first. Recall is not a column of its own: it is the accuracy of a class."""
    return Adaptive(lambda level: _per_class(scores, level), last_level=3)


def _per_class(scores: Scores, level: int) -> Table:
    table = simple_table("Classes, worst first", "accuracy of a class = its recall; interval: 95 % Wilson")
    table.add_column("class", overflow="fold")
    names = ["accuracy", "95 % interval", "images", "precision", "F1"]
    names = names[: (5, 5, 3, 2)[level]]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    if level == 0:
        table.add_column("", no_wrap=True, width=BAR_WIDTH)
    for score in sorted(scores.classes, key=lambda c: c.accuracy.value):
        known = score.support > 0
        cells = [
            text.percent(score.accuracy.value) if known else "–",
            text.interval(score.accuracy) if known else "–",
            text.count(score.support),
            "–" if score.precision is None else text.percent(score.precision),
            "–" if score.f1 is None else text.percent(score.f1),
        ][: len(names)]
        bar = (
            [Text(text.bar(score.accuracy.value, BAR_WIDTH), style=_shade(score.accuracy.value))] if level == 0 else []
        )
        table.add_row(Text(score.name), *cells, *bar, style="" if known else "dim")
    return table


def overall_panel(result: EvaluateResult) -> Panel:
    """Overall figures with what makes them comparable: split, who chose the weights, augmentation, interval."""
    scores = result.scores
    top1 = Text.assemble((text.percent(scores.top1.value), "bold green"), f"  ({text.interval(scores.top1)})")
    machine = f"{result.device} in {result.precision}"
    nll_without = ece_without = ""
    if result.temperature is not None and (raw := result.uncalibrated) is not None:
        nll_without = f" ({raw.nll:.4f} without temperature)"
        ece_without = f", temperature {result.temperature:.3f} ({text.percent(raw.ece)} without)"
    rows: list[tuple[str, RenderableType]] = [
        ("checkpoint", Text(result.checkpoint)),
        ("top-1", top1),
        ("top-5", f"{text.percent(scores.top5.value)}  ({text.interval(scores.top5)})"),
        ("NLL", f"{scores.nll:.4f} nats per image{nll_without}"),
        ("ECE", f"{text.percent(scores.ece)} in {len(scores.calibration)} bins{ece_without}"),
        (
            "measured on",
            f"{result.protocol.data}, {result.protocol.split} split, {text.plural(scores.images, 'image')}",
        ),
        ("weights", CHOSEN_BY.get(result.protocol.chosen_by, result.protocol.chosen_by)),
        ("augmentation", augmentation(result.protocol.tta)),
        ("interval", result.protocol.interval),
        ("time", f"{text.duration(result.seconds)} on {machine}, {result.images_per_s:,.0f} images/s"),
    ]
    return Panel(figures_grid(rows), title="Accuracy", title_align="left", box=box.ROUNDED, expand=False)


def most_confused_table(scores: Scores) -> RenderableType:
    """The most frequent mistakes, each with its share of the actual class."""
    if not scores.most_confused:
        return Text("No image was taken for another class.")
    return Adaptive(lambda level: _most_confused(scores, level), last_level=1)


def _most_confused(scores: Scores, level: int) -> Table:
    table = simple_table("Most confused")
    table.add_column("actual", overflow="fold")
    table.add_column("taken for", overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("of the class", justify="right", no_wrap=True)
    if level == 0:
        table.add_column("", no_wrap=True, width=BAR_WIDTH)
    largest = max(pair.share for pair in scores.most_confused)
    for pair in scores.most_confused:
        bar = [Text(text.bar(pair.share / largest, BAR_WIDTH), style="red")] if level == 0 else []
        cells = (text.count(pair.count), text.percent(pair.share, 1))
        table.add_row(Text(pair.actual), Text(pair.predicted), *cells, *bar)
    return table


def evaluation(result: EvaluateResult) -> Group:
    """The whole report of `evaluate`."""
    parts: list[RenderableType] = [
        overall_panel(result),
        Text(),
        per_class_table(result.scores),
        Text(),
        most_confused_table(result.scores),
        Text(),
        ConfusionHeatmap(result.scores),
    ]
    if result.files:
        parts += [Text(), files_written(result.files)]
    return Group(*parts)


def augmentation(tta: str) -> str:
    """What was done to the images at test time."""
    return f"test-time: mean over {VIEWS[tta]}" if tta in VIEWS else f"{tta} at test time"


def _shade(share: float) -> str:
    if share < 0.5:
        return "red"
    return "yellow" if share < 0.8 else "green"
