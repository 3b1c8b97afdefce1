"""What a comparison of two checkpoints looks like: the verdict, the figures behind it, classes, images."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.layout import Adaptive, figures_grid, files_written, simple_table
from resnetcli.reporting.scores_view import CHOSEN_BY, augmentation
from resnetcli.results.compare import Compared, CompareResult, Difference, Paired


def comparison(result: CompareResult, show: int) -> Group:
    """The whole report of `compare`, with the first `show` images that get different answers."""
    parts: list[RenderableType] = [
        verdict(result),
        Text(),
        comparison_panel(result),
        Text(),
        _outcomes(result.paired),
        Text(),
        Adaptive(lambda level: _by_class(result.paired, level), last_level=3),
    ]
    if show and result.differences:
        parts += [Text(), _differences(result, show)]
    if result.files:
        parts += [Text(), files_written(result.files)]
    return Group(*parts)


def verdict(result: CompareResult) -> Text:
    """One line in plain words; the difference is that of the better one, so that it needs no sign."""
    paired, difference = result.paired, result.paired.difference
    images = text.plural(paired.images, "image")
    if not result.differences:
        return Text(f"No difference: A and B give the same answer to all {images}.", "bold")
    if paired.better is None:
        by = f"{text.points(difference.value)} points ({_ends(difference)})"
        return Text(f"No difference that {images} can show: B − A is {by}, {text.p_value(paired.p)}.", "bold")
    low, high = sorted(100 * abs(share) for share in (difference.low, difference.high))
    by = f"{100 * abs(difference.value):.2f} points ({low:.2f} to {high:.2f})"
    line = Text(f"{paired.better} is better by {by}, {text.p_value(paired.p)}.", "bold green")
    if (result.a if paired.better == "A" else result.b).may_have_seen:
        line.append(f" But {paired.better} may have been trained on these images.", "bold yellow")
    return line


def comparison_panel(result: CompareResult) -> Panel:
    """Both sides, their difference, and what makes these figures comparable."""
    paired = result.paired
    split = f"{result.data}, {result.split} split, {text.plural(paired.images, 'image')}"
    alone = f"{text.count(paired.only_a)} to {text.count(paired.only_b)} where one alone is right"
    rows: list[tuple[str, RenderableType]] = [
        ("A", _side(result.a)),
        ("B", _side(result.b)),
        ("B − A", f"{text.points(paired.difference.value)} points  ({_ends(paired.difference)})"),
        ("McNemar", f"{text.p_value(paired.p)}  ({alone}; mid-p of the exact test)"),
        ("measured on", split),
        ("augmentation", augmentation(result.tta)),
        ("intervals", f"{result.interval}; of differences {result.difference_interval}"),
        ("time", f"{text.duration(result.seconds)} on {result.device} in {result.precision}"),
    ]
    return Panel(figures_grid(rows), title="Comparison", title_align="left", box=box.ROUNDED, expand=False)


def _side(side: Compared) -> Text:
    top1 = f"{text.percent(side.top1.value)}  ({text.interval(side.top1)})"
    lines = Text.assemble(
        f"{side.checkpoint}\n",
        ("top-1 ", "dim"),
        (top1, "bold"),
        ("  top-5 ", "dim"),
        text.percent(side.top5.value),
        ("\nNLL ", "dim"),
        f"{side.nll:.4f}",
        ("  ECE ", "dim"),
        text.percent(side.ece),
        *(() if side.temperature is None else (("  temperature ", "dim"), f"{side.temperature:.3f}")),
        ("\nweights: ", "dim"),
        CHOSEN_BY.get(side.chosen_by, side.chosen_by),
    )
    if side.may_have_seen:
        lines.append("\nmay have been trained on images of this split: its accuracy will flatter", style="yellow")
    return lines


def _outcomes(paired: Paired) -> Table:
    """The two-by-two table that the test goes by."""
    table = simple_table("Images by who is right")
    table.add_column("")
    for name in ("B right", "B wrong"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("A right", text.count(paired.both_right), text.count(paired.only_a))
    table.add_row("A wrong", text.count(paired.only_b), text.count(paired.both_wrong))
    return table


def _by_class(paired: Paired, level: int) -> Table:
    """Classes, from where B loses most to where it gains most."""
    note = (
        f"p: McNemar, adjusted (Holm) for looking at {len(paired.classes)} classes at once; ★: p < 0.05\n"
        "intervals are not adjusted: where nothing differs, one in 20 leaves out 0 by chance"
    )
    table = simple_table("Classes, from where A is better to where B is", note)
    table.add_column("class", overflow="fold")
    names = ("A", "B", "B − A", "p", "95 % interval", "only A", "only B", "images")[: (8, 7, 5, 4)[level]]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in sorted(paired.classes, key=lambda c: c.difference.value):
        known = row.support > 0
        cells = (
            text.percent(row.a.value),
            text.percent(row.b.value),
            text.points(row.difference.value),
            text.p_value(row.p_holm).removeprefix("p ").removeprefix("= "),
            _ends(row.difference),
            text.count(row.only_a),
            text.count(row.only_b),
            text.count(row.support),
        )
        shown = cells if known else ("–",) * 7 + ("0",)
        table.add_row(Text(row.name), *shown[: len(names)], "★" if row.p_holm < 0.05 else "")
    return table


def _differences(result: CompareResult, show: int) -> Group:
    """The first `show` images that get different answers."""
    shown, total = result.differences[:show], len(result.differences)
    of = "" if len(shown) == total else f": the first {text.count(len(shown))} of {text.count(total)}"
    # Not a title of the table, which would be folded to the table's width.
    title = Text(f"Images with different answers{of}", style="bold")
    table = simple_table()
    table.add_column("image", justify="right", no_wrap=True)
    for name in ("label", "A says", "B says", "right"):
        table.add_column(name, overflow="fold")
    for row in shown:
        answers = (Text(answer, style="green" if answer == row.label else "red") for answer in (row.a, row.b))
        table.add_row(text.count(row.image), Text(row.label), *answers, row.right or "neither")
    rest = [] if len(shown) == total else [Text("--show N lists more, --output FOLDER writes all", style="dim")]
    return Group(title, table, *rest)


def _ends(difference: Difference) -> str:
    return f"{text.points(difference.low)} to {text.points(difference.high)}"
