"""Runs command lines in one process of its own, watched: `python -m tests.faults.runner < lines.json`.

Takes a JSON list of [argv, …]; the first command lines only warm it up, as many as `warm` says. Prints one JSON line
for each other: exit code, what it wrote, seconds of processor time, the most memory above what the process held
before, and every audited event by which a file could have acted. An audit hook cannot be taken off again, hence a
process for itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ACTS = (
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.spawn", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "socket.bind", "urllib.Request", "webbrowser.open"),
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "shutil.rmtree"),
)
EVERYDAY = ("open", "compile", "exec", "import", "ctypes.dlopen")
"""What libraries do too; it counts where it has to do with the mark that malicious files would leave."""
MARK = "pwned"


@dataclass(frozen=True)
class Ran:
    argv: list[str]
    code: int
    out: str
    err: str
    seconds: float
    memory: int
    """Bytes at the peak above what the process held before."""
    acts: list[str]


def ran(lines: list[list[str]], *, warm: list[list[str]], cwd: Path) -> list[Ran]:
    """Each line as it went, in a new process that works in `cwd`."""
    command = [sys.executable, "-m", "tests.faults.runner"]
    home = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": home, "COLUMNS": "200"}
    given = json.dumps({"warm": warm, "lines": lines})
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return [Ran(**json.loads(line)) for line in done.stdout.splitlines()]


def _expected(event: str, args: tuple[object, ...], cwd: str) -> bool:
    """What the tool does by itself: its lock and its temporary files in the folder that it was given."""
    if event.startswith(("os.", "shutil.")) and event not in ("os.system", "os.exec", "os.fork", "os.posix_spawn"):
        name = os.path.abspath(os.fsdecode(args[0])) if isinstance(args[0], str | bytes | os.PathLike) else ""  # noqa: PTH100
        return name.startswith(cwd) and Path(name).name.startswith((".lock", ".holder", ".tmp-"))
    return event in EVERYDAY and not any(MARK in repr(arg) or arg == "antigravity" for arg in args)


def main() -> None:
    from resnetcli.cli.main import run

    given = json.load(sys.stdin)
    answers, cwd = sys.stdout, os.getcwd()  # noqa: PTH109
    acts: list[str] = []
    armed = False

    def hook(event: str, args: tuple[object, ...]) -> None:
        if armed and event in (*ACTS, *EVERYDAY) and not _expected(event, args, cwd):
            acts.append(f"{event} {args!r}"[:200])

    sys.addaudithook(hook)
    for number, argv in enumerate([*given["warm"], *given["lines"]]):
        out, err = io.StringIO(), io.StringIO()
        before, held = time.process_time(), _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        armed = number >= len(given["warm"])
        acts.clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(argv)
        seen, armed = list(acts), False
        seconds, memory = time.process_time() - before, _memory("VmHWM") - held
        if number >= len(given["warm"]):
            answer = Ran(argv, code, out.getvalue(), err.getvalue(), seconds, memory, seen)
            print(json.dumps(answer.__dict__), file=answers, flush=True)


def _memory(field: str) -> int:
    """Bytes that the process holds now ("VmRSS"), or held at most since it was last asked to forget ("VmHWM")."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux: the peak of the whole process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if field == "VmHWM" else 0
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
