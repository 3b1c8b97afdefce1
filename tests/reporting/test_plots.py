"""Plots are PNG files of the promised resolution, drawn without pyplot or a display."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from resnetcli.reporting import plots
from tests.reporting.examples import history, ten_class_scores

SCORES = ten_class_scores(500)
DRAWINGS: dict[str, Callable[[], bytes]] = {
    "confusion": lambda: plots.confusion_png(SCORES),
    "calibration": lambda: plots.calibration_png(SCORES),
    "history": lambda: plots.history_png(history(5)),
    "history of a final run": lambda: plots.history_png(
        [row.model_copy(update={"val_loss": None, "val_top1": None}) for row in history(1)]
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_a_png_that_is_not_blank(name: str) -> None:
    with Image.open(io.BytesIO(DRAWINGS[name]())) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 4 * plots.DPI
        assert image.info["dpi"] == pytest.approx((plots.DPI, plots.DPI), abs=0.1)
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 20


def test_reporting_imports_no_heavy_module_before_a_plot_is_drawn() -> None:
    script = (
        "import sys\n"
        "from resnetcli.reporting import console, errors, files, live, plots, progress, tables\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_plots_leave_pyplot_alone() -> None:
    script = (
        "import sys\nfrom tests.reporting.examples import history\n"
        "from resnetcli.reporting.plots import history_png\n"
        "history_png(history(2))\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "False\n"
