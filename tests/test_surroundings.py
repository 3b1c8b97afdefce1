"""No code of the current folder is executed: neither by libraries that are imported nor by starting a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnetcli.surroundings import inside, program

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such habit known on Windows")


def said_by(code: str, cwd: Path, *paths: Path) -> str:
    """What a new process prints that runs `code` in `cwd`, with modules from `paths` before all others."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a package called torch that says where it is imported."""
    package = tmp_path / "modules" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os\nprint('imported in', os.getcwd())\n")
    return package.parent


def test_torch_is_imported_in_the_root_folder_and_the_current_one_is_as_before(tmp_path: Path, stand_in: Path) -> None:
    code = (
        "import sys, os\nfinders = list(sys.meta_path)\nimport resnetcli, torch\n"
        "print(os.getcwd(), torch.__spec__.name, sys.meta_path == finders)\n"
    )
    assert said_by(code, tmp_path, stand_in) == f"imported in /\n{tmp_path} torch True\n"


def test_an_import_that_fails_leaves_the_current_folder_as_it_was_and_can_be_tried_again(
    tmp_path: Path, stand_in: Path
) -> None:
    (stand_in / "torch" / "__init__.py").write_text("import os\nprint('imported in', os.getcwd())\n1 / 0\n")
    code = (
        "import os, resnetcli\nfor _ in range(2):\n"
        "    try:\n        import torch\n    except ZeroDivisionError:\n        print(os.getcwd())\n"
    )
    assert said_by(code, tmp_path, stand_in) == f"imported in /\n{tmp_path}\n" * 2


def test_torch_that_is_there_already_is_left_alone(tmp_path: Path, stand_in: Path) -> None:
    code = "import sys, torch\nfinders = list(sys.meta_path)\nimport resnetcli\nprint(sys.meta_path == finders)\n"
    assert said_by(code, tmp_path, stand_in) == f"imported in {tmp_path}\nTrue\n"


@pytest.mark.slow
def test_evaluate_opens_nothing_of_the_current_folder(tmp_path: Path) -> None:
    """Whoever opens a pipe waits until somebody writes into it, which nobody does here."""
    settings = ("matplotlibrc", ".npmrc", ".env", ".condarc", "setup.cfg", "tox.ini", "pyproject.toml", "pyvenv.cfg")
    code = (
        "libcuda.so.1",
        "libgomp.so.1",
        "sitecustomize.py",
        "usercustomize.py",
        "torch.py",
        "rich.py",
        "npm",
        "uname",
    )
    for name in (*settings, *code):
        os.mkfifo(tmp_path / name)
    command = ["evaluate", "--data", "cifar10-mini", "--save-plots", "--output", "report", "--quiet"]
    arguments = f"import sys\nfrom resnetcli.cli.main import run\nsys.exit(run({command}))\n"
    assert "top-1" in said_by(arguments, tmp_path)
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".json", ".csv", ".png"}


def test_a_current_folder_that_is_gone_is_current_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with inside(tmp_path):
        assert Path.cwd() == tmp_path
    with pytest.raises(FileNotFoundError):
        Path.cwd()


def test_a_current_folder_that_may_not_be_opened_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `su` in somebody else's home: there is no way back into it, and nothing of it can be read."""

    def refuse(*_: object) -> int:
        raise PermissionError

    before = Path.cwd()
    monkeypatch.setattr(os, "open", refuse)
    with inside(tmp_path):
        assert Path.cwd() == before


def executable(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch(0o755)
    return path


def test_a_program_is_found_in_folders_named_from_the_root_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "npm")
    executable(tmp_path / "relative" / "npm")
    (tmp_path / "folder" / "npm").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "npm").touch(0o644)
    installed = executable(tmp_path / "bin" / "npm")
    monkeypatch.chdir(tmp_path)
    bad = ["", ".", "relative", f"{tmp_path}/folder", f"{tmp_path}/other"]
    monkeypatch.setenv("PATH", os.pathsep.join(bad))
    assert program("npm") is None
    monkeypatch.setenv("PATH", os.pathsep.join([*bad, f"{tmp_path}/bin"]))
    assert program("npm") == str(installed)


def test_a_program_is_found_by_its_ending_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "npm.CMD")
    executable(tmp_path / "bin" / "npm")  # a shell script, which Windows cannot start
    installed = executable(tmp_path / "bin" / "npm.CMD")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setenv("PATHEXT", ".EXE;.CMD")
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "pathsep", ";")
    assert program("npm") == str(installed)
