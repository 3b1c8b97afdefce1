"""Runs one command, and ends it with all that it started when whoever asked for it is gone.

    python -I keeper.py COMMAND…

The kernel closes the pipe on standard input when the other end dies, however it dies: SIGKILL leaves no time to end a
child, and not every system can tie one process to the life of another. Nothing of the package is imported, so that it
runs by its path alone. The exit code is the command's, 128 and more for a signal, 127 where it cannot be started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"npm error {command[0]} cannot be started: {error.strerror or error}", file=sys.stderr)
        return 127
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _watch(process: subprocess.Popen[bytes]) -> None:
    """Ends the command when standard input does. It has a session of its own, and with it a process group."""
    while os.read(0, 1024):
        pass
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], stdin=subprocess.DEVNULL, check=False)
    else:
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
