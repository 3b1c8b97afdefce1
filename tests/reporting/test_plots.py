"""Plots are PNG files of the promised resolution, drawn without pyplot, a display or anybody's settings."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetcli.metrics import scores
from resnetcli.reporting import drawing, plots
from resnetcli.results.evaluate import EvaluateResult
from tests.reporting.examples import curve_notes, evaluate_result, history, ten_class_scores

RESULT = evaluate_result().model_copy(update={"scores": ten_class_scores(500)})
DRAWINGS: dict[str, Callable[[], bytes]] = {
    "confusion": lambda: plots.confusion_png(RESULT),
    "calibration": lambda: plots.calibration_png(RESULT),
    "history": lambda: plots.history_png(history(5), curve_notes()),
    "history of a final run": lambda: plots.history_png(
        [row.model_copy(update={"val_loss": None, "val_top1": None}) for row in history(1)],
        curve_notes(small_epochs=0, train_loss_with=()),
    ),
}
HOSTILE = "text.usetex: True\nsavefig.dpi: 4000\nfigure.facecolor: red\nlines.linewidth: 40\nbackend: module://evil\n"
DIGESTS = (
    "import hashlib, sys\n"
    "from tests.reporting.test_plots import DRAWINGS\n"
    "for name in {names}:\n"
    "    print(hashlib.sha256(DRAWINGS[name]()).hexdigest())\n"
    "print(sorted({{'matplotlib.pyplot', 'matplotlib.style'}} & set(sys.modules)))\n"
)
ROOT = Path(__file__).parents[2]


def with_classes(*names: str) -> EvaluateResult:
    answers = [*range(len(names))]
    measured = scores(
        classes=names,
        labels=answers,
        predicted=answers,
        in_top5=[True] * len(names),
        confidence=[0.5] * len(names),
        true_probability=[0.5] * len(names),
    )
    return RESULT.model_copy(update={"scores": measured})


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_a_png_that_is_not_blank(name: str) -> None:
    with Image.open(io.BytesIO(DRAWINGS[name]())) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 4 * drawing.DPI
        assert image.info["dpi"] == pytest.approx((drawing.DPI, drawing.DPI), abs=0.1)
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 20


def test_reporting_imports_no_heavy_module_before_a_plot_is_drawn() -> None:
    script = (
        "import sys\n"
        "from resnetcli.reporting import console, errors, files, live, plots, progress, tables\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def drawn_elsewhere(script: str, cwd: Path, **environment: str) -> str:
    """What a new process prints that draws all pictures in `cwd`; it must have nothing to say on stderr."""
    command = [sys.executable, "-P", "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def digests(*names: str) -> str:
    """What `DIGESTS` prints of these pictures: those of this process, and neither pyplot nor anybody's styles."""
    return "".join(f"{hashlib.sha256(DRAWINGS[name]()).hexdigest()}\n" for name in names) + "[]\n"


def lay_bad_settings(path: Path, kind: str) -> None:
    match kind:
        case "hostile":
            path.write_text(HOSTILE)
        case "undecodable":
            path.write_bytes(b"lines.linewidth: \xff\xfe\n")
        case "nonsense":
            path.write_text("no colon\nno.such.key: 1\nsavefig.dpi: many\n")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)


KINDS = (
    "hostile",
    "undecodable",
    "nonsense",
    "folder",
    pytest.param("pipe", marks=pytest.mark.skipif(os.name == "nt", reason="Unix")),
)


def bad_surroundings(folder: Path, kind: str) -> dict[str, str]:
    """Lays settings where matplotlib looks for them: in the current folder, that of the user, and as $MATPLOTLIBRC."""
    home, named = folder / "home", folder / "named"
    home.mkdir()
    for path in (folder / "matplotlibrc", home / "matplotlibrc", named):
        lay_bad_settings(path, kind)
    return {"MATPLOTLIBRC": str(named), "MPLCONFIGDIR": str(home), "MPLBACKEND": "none such"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_matplotlibrc_is_read(kind: str, tmp_path: Path) -> None:
    script = (
        "from resnetcli.reporting.drawing import _matplotlib\n"
        "mpl = _matplotlib()\n"
        "print(dict(mpl.rcParams) == dict(mpl.rcParamsDefault))\n"
    )
    assert drawn_elsewhere(script, tmp_path, **bad_surroundings(tmp_path, kind)) == "True\n"


def test_pictures_are_the_same_in_every_process_whatever_a_matplotlibrc_says(tmp_path: Path) -> None:
    script = DIGESTS.format(names=[*DRAWINGS])
    assert drawn_elsewhere(script, tmp_path, **bad_surroundings(tmp_path, "hostile")) == digests(*DRAWINGS)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a current folder from being removed")
def test_a_current_folder_that_is_gone_and_a_home_that_takes_no_files_do_not_matter(tmp_path: Path) -> None:
    script = (
        "import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir(os.getcwd())\n"
        + DIGESTS.format(names=["history"])
        + "try:\n    os.getcwd()\nexcept FileNotFoundError:\n    print('still gone')\n"
    )
    (tmp_path / "file").touch()
    wanted = digests("history") + "still gone\n"
    assert drawn_elsewhere(script, tmp_path, MPLCONFIGDIR=str(tmp_path / "file")) == wanted


def test_the_current_folder_and_the_environment_are_as_before(tmp_path: Path) -> None:
    script = (
        "import os\nbefore = os.getcwd(), dict(os.environ)\n"
        "from resnetcli.reporting import drawing\ndrawing._matplotlib()\n"
        "print((os.getcwd(), dict(os.environ)) == before)\n"
    )
    assert drawn_elsewhere(script, tmp_path, MPLBACKEND="agg") == "True\n"


def test_settings_of_a_process_that_imported_matplotlib_itself_are_passed_over_and_kept() -> None:
    import matplotlib  # not above: the processes that draw import this module

    wanted = DRAWINGS["history"]()
    with matplotlib.rc_context({"lines.linewidth": 40, "savefig.dpi": 10, "figure.facecolor": "red"}):
        assert DRAWINGS["history"]() == wanted
        assert matplotlib.rcParams["lines.linewidth"] == 40
        assert matplotlib.rcParams["text.parse_math"] is True


@pytest.mark.parametrize(
    "names",
    [
        ("$\\frac{1}$", "$$", "a_b^c"),
        ("猫", "🐈", "é"),
        ("\x1b[31m", "\u202e\u2066", "\udcff\ud800", "two\nlines"),
        ("x" * 5000, "y" * 300),
        tuple(f"class {i}" for i in range(300)),
        ("one",),
    ],
    ids=["formulas", "glyphs", "controls", "long", "many", "one"],
)
def test_any_names_can_be_drawn(names: tuple[str, ...]) -> None:
    result = with_classes(*names).model_copy(update={"checkpoint": f"runs/{names[0]}"})
    for draw in (plots.confusion_png, plots.calibration_png):
        with Image.open(io.BytesIO(draw(result))) as image:
            assert max(image.size) <= 20 * drawing.DPI
    assert plots.history_png(history(2), curve_notes().model_copy(update={"run": names[0]}))


@pytest.mark.parametrize("images", [1, 40])
def test_a_calibration_of_one_bin_fills_the_picture(images: int) -> None:
    result = with_classes(*(f"class {i}" for i in range(images)))
    with Image.open(io.BytesIO(plots.calibration_png(result))) as image:
        lines = np.asarray(image.convert("L")) == 255
    blank = "".join("x" if line.all() else " " for line in lines)
    assert max(map(len, blank.split())) < 0.1 * len(blank)


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert drawing.label("runs/fast-1", 11) == "runs/fast-1"
    assert drawing.label("runs/fast-1", 10) == "runs/…st-1"
    assert drawing.label("a\x1bb\u202ec\udcff", 10) == "a?b?c?"
