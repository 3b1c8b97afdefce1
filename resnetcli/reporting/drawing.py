"""matplotlib, so that a picture is the same everywhere and draws itself without a display.

No pyplot, and no settings but its own defaults: on import matplotlib reads the first `matplotlibrc` of the current
folder, of $MATPLOTLIBRC and of the user's folder, where a line can make every picture take gigabytes or start latex,
and a pipe of that name never ends.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from resnetcli.surroundings import inside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
"""Of Okabe and Ito's palette, which colour-blind readers tell apart; in grey print the first two differ in lightness.
"""
TITLE_LETTERS = 11
"""Letters of a title in an inch of a figure's width."""

P = ParamSpec("P")


def with_defaults(draw: Callable[P, bytes]) -> Callable[P, bytes]:
    """`draw` under matplotlib's own defaults, also in a process that had imported it before."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        matplotlib = _matplotlib()
        with warnings.catch_warnings():
            # A class may have a name in letters that the font lacks: it shows boxes, and nobody can do anything.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            # "$" in a name is a dollar.
            with matplotlib.rc_context({**_defaults(matplotlib), "text.parse_math": False}):
                return draw(*args, **kwargs)

    return drawn


def _defaults(matplotlib: Any) -> dict[str, Any]:
    """All settings but the backend, which only pyplot looks at. Not by `rcdefaults`, which reads the style files of the
    user's folder first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some settings are deprecated, whatever their values
        return {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}


@functools.cache
def _matplotlib() -> Any:
    """matplotlib, imported from the folder of its own defaults: there the first `matplotlibrc` is the one that it
    ships. Where it writes its list of fonts it chooses itself; what it has to say of that is not shown."""
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ImportError("matplotlib is not installed")
    # A backend that matplotlib does not know would end the import; and only pyplot would take it.
    aside = {name: os.environ.pop(name) for name in ("MATPLOTLIBRC", "MPLBACKEND") if name in os.environ}
    try:
        with inside(Path(spec.origin).with_name("mpl-data")):
            import matplotlib
    finally:
        os.environ.update(aside)
    return matplotlib


def figure_of(width: float, height: float, *title: str) -> Figure:
    """An empty figure of so many inches, with the lines of its title; it draws itself with Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    lines = [label(line, int(width * TITLE_LETTERS)) for line in title]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize="medium")
    return figure


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def label(name: str, most: int) -> str:
    """A name as a picture can show it, in `most` letters: without characters that have no shape, and of a longer one
    the beginning and the end."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[len(name) - end :]}"
