"""The pictures of a report, as PNG files in memory. The same result gives the same bytes, wherever it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnetcli.reporting import text
from resnetcli.reporting.drawing import BLUE, GREEN, GREY, VERMILION, figure_of, label, png, quiet, with_defaults
from resnetcli.results.evaluate import EvaluateResult
from resnetcli.results.train import CurveNotes, EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_IMAGES = 30
"""A bin of the calibration with fewer says little: at so many, a 95 % interval is up to 34 points wide."""
MOST_WRITTEN = 20
"""Up to so many classes the cells of the confusion matrix have room for counts."""
MOST_NAMED = 100
"""Up to so many classes each row has room for its name."""


@with_defaults
def confusion_png(result: EvaluateResult) -> bytes:
    """Shares of each actual class as shades, with the counts written into the cells."""
    scores = result.scores
    n = len(scores.classes)
    names = [label(c.name, 24) for c in scores.classes]
    shares = [[count / max(sum(row), 1) for count in row] for row in scores.confusion]
    width, height = (
        min(20.0, max(least, base + cell * n)) for least, base, cell in ((6.4, 2.4, 0.62), (5.6, 2.3, 0.52))
    )
    figure = figure_of(width, height, f"Confusion matrix of {result.checkpoint}", _measured(result))
    axes = figure.add_subplot()
    # A square root lifts the few per cent of a mistake above the paper's white.
    image = axes.imshow([[share**0.5 for share in row] for row in shares], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    size = "medium" if n <= MOST_WRITTEN else 6
    shown = range(0, n, -(-n // MOST_NAMED))
    axes.set_xticks(shown, [names[i] for i in shown], rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(shown, [names[i] for i in shown], fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("actual class")
    axes.tick_params(length=0)
    for i, row in enumerate(scores.confusion):
        for j, count in enumerate(row):
            if count and n <= MOST_WRITTEN:
                colour = "white" if shares[i][j] > 0.36 else "black"
                axes.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=8.5)
    for edge in axes.spines.values():
        edge.set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar.set_ticks([share**0.5 for share in ticks], labels=[f"{100 * share:g} %" for share in ticks])
    bar.set_label("share of the actual class (square-root scale)")
    bar.outline.set_visible(False)
    return png(figure)


@with_defaults
def calibration_png(result: EvaluateResult) -> bytes:
    """Accuracy against confidence, with its interval in each bin, and below how many images lie there."""
    scores = result.scores
    filled = [b for b in scores.calibration if b.count]
    ece = f"ECE {text.percent(scores.ece)} in {len(scores.calibration)} bins"
    if result.temperature is not None and result.uncalibrated is not None:
        ece += f", temperature {result.temperature:.3f} ({text.percent(result.uncalibrated.ece)} without)"
    figure = figure_of(7.2, 7.6, f"Calibration of {result.checkpoint}", _measured(result), ece)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    for few, name in (
        (False, f"accuracy of {FEW_IMAGES} images or more"),
        (True, f"accuracy of fewer than {FEW_IMAGES} images"),
    ):
        chosen = [b for b in filled if (b.count < FEW_IMAGES) == few]
        if not chosen:  # an empty series that is not clipped would leave a hole in the layout
            continue
        upper.errorbar(
            [b.confidence for b in chosen],
            [b.accuracy for b in chosen],
            yerr=[[b.accuracy - b.interval.low for b in chosen], [b.interval.high - b.accuracy for b in chosen]],
            color=GREY if few else VERMILION,
            elinewidth=0.8 if few else 1.5,
            marker="o",
            markersize=4 if few else 7,
            markerfacecolor="white" if few else VERMILION,
            linestyle="none",
            capsize=2,
            clip_on=False,  # a point at 0 or 100 % is a whole one
            label=f"{name} of similar confidence, 95 % Wilson interval",
        )
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize="small")
    bars = lower.bar(
        [(b.low + b.high) / 2 for b in filled],
        [b.count / scores.images for b in filled],
        [b.high - b.low for b in filled],
        color=GREY,
        edgecolor="white",
    )
    lower.bar_label(bars, [text.count(b.count) for b in filled], padding=1, fontsize=6.5)
    lower.margins(y=0.15)
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="share of images")
    for axes in (upper, lower):
        quiet(axes)
    return png(figure)


@with_defaults
def history_png(history: Sequence[EpochRow], notes: CurveNotes) -> bytes:
    """Loss, accuracy and learning rate by epoch, with the best epoch on validation and where the images grow.

    `history` has at least one row, whole epochs all of them, of a run that goes on or has ended: nothing here knows how
    many are to come. `notes` come from `services.history.curve_notes`.
    """
    from matplotlib.ticker import MaxNLocator

    figure = figure_of(8.0, 7.6, f"Run {notes.run}", *_sizes(notes))
    panels: list[Axes] = list(figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1.4)))
    losses, accuracies, rates = panels
    epochs = [row.epoch for row in history]
    validated = [(row.epoch, row.val_loss, row.val_top1) for row in history if row.val_top1 is not None]
    dots = "o" if len(history) <= 30 else None
    with_ = f", with {' and '.join(notes.train_loss_with)}" if notes.train_loss_with else ""
    for axes, train, column, name in (
        (losses, [row.train_loss for row in history], 1, f"training{with_}"),
        (accuracies, [100 * row.train_top1 for row in history], 2, "training"),
    ):
        axes.plot(epochs, train, color=BLUE, marker=dots, markersize=4, linestyle="--", label=name)
        if validated:
            measured = [(row[column] or 0.0) * (1 if axes is losses else 100) for row in validated]
            axes.plot(
                [row[0] for row in validated], measured, color=VERMILION, marker=dots, markersize=4, label="validation"
            )
    rates.plot(epochs, [row.lr for row in history], color=GREY, marker=dots, markersize=3)
    if validated:
        best = max(validated, key=lambda row: row[2] or 0.0)  # the first of equal ones, which is the one that is kept
        for axes in panels:
            axes.axvline(best[0], color=GREEN, linewidth=1)
        accuracies.plot(
            [best[0]],
            [100 * (best[2] or 0.0)],
            color=GREEN,
            marker="*",
            markersize=13,
            linestyle="none",
            label=f"best epoch on validation: {text.count(best[0])}, {text.percent(best[2] or 0.0)}",
        )
    if 0 < notes.small_epochs < epochs[-1]:
        for axes in panels:
            axes.axvline(
                notes.small_epochs + 0.5,
                color="black",
                linestyle=":",
                linewidth=1,
                label=f"images grow from {notes.start_size} to {notes.size} pixels" if axes is losses else None,
            )
    losses.set_ylabel("cross-entropy (nats)")
    accuracies.set_ylabel("top-1 accuracy (%)")
    rates.set(xlabel="epoch", ylabel="learning rate")
    rates.set_ylim(bottom=0)
    rates.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    for axes in panels:
        quiet(axes)
    for axes in (losses, accuracies):
        axes.legend(fontsize="small", edgecolor="none", framealpha=0.85)
    return png(figure)


def _sizes(notes: CurveNotes) -> tuple[str, ...]:
    if not notes.small_epochs:
        return ()
    later = f"of {notes.size} after it and in validation"
    return (f"training images of {notes.start_size} pixels up to epoch {notes.small_epochs}, {later}",)


def _measured(result: EvaluateResult) -> str:
    scores, protocol = result.scores, result.protocol
    tta = "" if protocol.tta == "none" else f", tta {protocol.tta}"
    images = text.plural(scores.images, "image")
    return f"{protocol.data}, {protocol.split} split, {images}{tta}: top-1 {text.percent(scores.top1.value)}"
