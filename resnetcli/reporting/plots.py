"""PNG plots, as bytes. matplotlib comes in where one is drawn, by its object interface: no pyplot, no global state, and
no `matplotlibrc` of the current folder or of the user, so that a picture is the same everywhere."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from resnetcli.reporting import text
from resnetcli.results.evaluate import Scores
from resnetcli.results.train import EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#777777"
"""Of Okabe and Ito's palette, which colour-blind readers tell apart; in grey print they differ in lightness."""


P = ParamSpec("P")


@functools.cache
def _matplotlib() -> Any:
    """matplotlib, imported from the folder of its own defaults.

    On import it reads the first `matplotlibrc` of the current folder, of $MATPLOTLIBRC and of the user's folder; a line
    in one can make every picture take gigabytes or start latex, and a pipe of that name never ends. In that folder the
    first is the one that matplotlib ships.
    """
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    before = os.getcwd()  # noqa: PTH109
    os.chdir(Path(spec.origin).parent / "mpl-data")
    try:
        import matplotlib
    finally:
        os.chdir(before)
    return matplotlib


def _with_defaults(draw: Callable[P, bytes]) -> Callable[P, bytes]:
    """`draw` under matplotlib's own defaults, also in a process that had imported it before."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        matplotlib = _matplotlib()
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            return draw(*args, **kwargs)

    return drawn


@_with_defaults
def confusion_png(scores: Scores) -> bytes:
    """Shares of each actual class as shades, with the counts written into the cells."""
    names = [c.name for c in scores.classes]
    n = len(names)
    shares = [[count / max(sum(row), 1) for count in row] for row in scores.confusion]
    figure = _figure(width=max(6.4, 2.4 + 0.62 * n), height=max(5.2, 1.9 + 0.52 * n))
    axes = figure.add_subplot()
    # A square root lifts the few per cent of a mistake above the paper's white.
    image = axes.imshow([[share**0.5 for share in row] for row in shares], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("actual class")
    axes.set_title(f"Confusion, {_measured(scores)}", loc="left")
    axes.tick_params(length=0)
    for i, row in enumerate(scores.confusion):
        for j, count in enumerate(row):
            if count and n <= 20:
                colour = "white" if shares[i][j] > 0.36 else "black"
                axes.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=8.5)
    for edge in axes.spines.values():
        edge.set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar.set_ticks([share**0.5 for share in ticks], labels=[f"{100 * share:g} %" for share in ticks])
    bar.set_label("share of the actual class (square-root scale)")
    bar.outline.set_visible(False)
    return _png(figure)


@_with_defaults
def calibration_png(scores: Scores) -> bytes:
    """Accuracy against confidence, and below how many images lie in each bin."""
    filled = [b for b in scores.calibration if b.count]
    figure = _figure(width=6.0, height=6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centres = [(b.low + b.high) / 2 for b in filled]
    widths = [b.high - b.low for b in filled]
    upper.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    upper.bar(
        centres, [b.accuracy for b in filled], widths, color=BLUE, alpha=0.35, edgecolor="white", label="accuracy"
    )
    upper.plot(
        [b.confidence for b in filled],
        [b.accuracy for b in filled],
        color=VERMILION,
        marker="o",
        markersize=4,
        linewidth=1.2,
        label="at the bin's mean confidence",
    )
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    upper.set_title(f"Calibration, ECE {text.percent(scores.ece)}, {_measured(scores)}", loc="left")
    upper.legend(frameon=False, loc="upper left")
    lower.bar(centres, [b.count / scores.images for b in filled], widths, color=GREY, edgecolor="white")
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="share of images")
    for axes in (upper, lower):
        _quiet(axes)
    return _png(figure)


@_with_defaults
def history_png(history: Sequence[EpochRow]) -> bytes:
    """Loss and accuracy by epoch, training and validation."""
    figure = _figure(width=9.0, height=4.0)
    left, right = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    validated = [row for row in history if row.val_loss is not None and row.val_top1 is not None]
    marker = "o" if len(history) <= 30 else None
    for axes, train, val in (
        (left, [row.train_loss for row in history], [row.val_loss or 0.0 for row in validated]),
        (right, [100 * row.train_top1 for row in history], [100 * (row.val_top1 or 0.0) for row in validated]),
    ):
        axes.plot(epochs, train, color=BLUE, marker=marker, markersize=4, linestyle="--", label="training")
        if validated:
            axes.plot(
                [row.epoch for row in validated], val, color=VERMILION, marker=marker, markersize=4, label="validation"
            )
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        _quiet(axes)
    left.set_title("Loss", loc="left")
    left.set_ylabel("cross-entropy (nats)")
    right.set_title("Accuracy", loc="left")
    right.set_ylabel("top-1 (%)")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that draws itself with Agg, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _measured(scores: Scores) -> str:
    return f"top-1 {text.percent(scores.top1.value)} of {text.count(scores.images)} images"
