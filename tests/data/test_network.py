from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnetcli.data import network
from resnetcli.errors import DataError, Interrupted
from resnetcli.events import Event, Notice, Progress, ignore

CONTENT = bytes(range(256)) * 8_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT with Range. `plan` says for each request in turn: "ok", "cut" (half of it), or a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.plan: list[str | int] = []
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        step = self.server.plan.pop(0) if self.server.plan else "ok"
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        content = self.server.content
        if asked and start >= len(content):
            step = 416
        if isinstance(step, int):
            self.send_error(step)
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if step == "cut" else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(network, "BACK_OFF", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_download_reports_bytes_and_leaves_only_the_file(server: Server, tmp_path: Path) -> None:
    events: list[Event] = []
    network.download(server.url, tmp_path / "a.gz", MD5, events.append)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["a.gz"]
    assert events[0] == Progress("Downloading CIFAR-10", 0, len(CONTENT), "B")
    assert events[-1] == Progress("Downloading CIFAR-10", len(CONTENT), len(CONTENT), "B")


def test_a_cut_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.plan = ["cut", "cut", "ok"]
    events: list[Event] = []
    network.download(server.url, tmp_path / "a.gz", MD5, events.append)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    half, quarter = len(CONTENT) // 2, len(CONTENT) // 4
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + quarter}-"]
    warnings = [event for event in events if isinstance(event, Notice)]
    assert len(warnings) == 2
    assert f"the connection ended after {half:,} of {len(CONTENT):,} bytes" in warnings[0].text


def test_what_an_earlier_run_left_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.gz.part").write_bytes(CONTENT[:1000])
    network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert server.ranges == ["bytes=1000-"]
    assert (tmp_path / "a.gz").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.gz.part").write_bytes(CONTENT)
    network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert server.ranges == [f"bytes={len(CONTENT)}-"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.gz"]


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * (len(CONTENT) + 5)])
def test_a_part_of_something_else_is_thrown_away(left: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.gz.part").write_bytes(left)
    network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert len(server.ranges) == 2
    assert server.ranges[1] is None
    assert (tmp_path / "a.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["a pipe", "a link"])
def test_a_part_that_is_no_plain_file_is_thrown_away(kind: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    part = tmp_path / "a.gz.part"
    os.mkfifo(part) if kind == "a pipe" else part.symlink_to(tmp_path / "theirs")
    network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_wrong_content_is_an_error_and_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(DataError, match=f"does not have the md5 {MD5}"):
        network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_server_error_is_tried_three_times_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.plan = ["cut", 503, 500]
    with pytest.raises(DataError, match="the server answers 500"):
        network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert len(server.ranges) == 3
    assert (tmp_path / "a.gz.part").read_bytes() == CONTENT[: len(CONTENT) // 2]


def test_a_missing_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.plan = [404]
    with pytest.raises(DataError, match="the server answers 404"):
        network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert len(server.ranges) == 1


def test_a_server_that_falls_silent_counts_as_cut(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "SOCKET_TIMEOUT", 0.05)
    monkeypatch.setattr(network, "TRIES", 1)
    monkeypatch.setattr(Handler, "do_GET", lambda handler: time.sleep(0.2))
    with pytest.raises(DataError, match="timed out"):
        network.download(server.url, tmp_path / "a.gz", MD5, ignore)


def test_a_name_that_does_not_resolve_is_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name_service(*args: object) -> None:
        raise network.socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_name_service)
    monkeypatch.setenv("no_proxy", "*")
    events: list[Event] = []
    with pytest.raises(DataError, match="Name or service not known"):
        network.download("http://example.invalid/a.gz", tmp_path / "a.gz", MD5, events.append)
    assert events == []


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called npm on the PATH, and nothing else."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!{sys.executable}\nimport sys, time, pathlib\n{script}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_npm_packs_in_the_folder_with_no_stdin_and_no_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "pathlib.Path('a-1.tgz').write_text(' '.join(sys.argv[1:]) + repr(sys.stdin.read()))"
    fake_npm(tmp_path / "bin", monkeypatch, script)
    tarball = network.npm_pack("a@1", tmp_path / "npm", ignore)
    assert tarball == tmp_path / "npm" / "a-1.tgz"
    assert tarball.read_text().startswith("pack a@1 --workspaces=false --ignore-scripts")
    assert tarball.read_text().endswith("''")


def test_npm_that_fails_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "mark = pathlib.Path('../failed')\n"
        "if not mark.exists(): mark.touch(); sys.exit('npm error code ECONNRESET')\n"
        "pathlib.Path('a-1.tgz').touch()"
    )
    fake_npm(tmp_path / "bin", monkeypatch, script)
    events: list[Event] = []
    assert network.npm_pack("a@1", tmp_path / "npm", events.append).exists()
    assert Notice("npm pack a@1: exit code 1: code ECONNRESET; trying again", warning=True) in events


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("sys.exit('npm ERR! code E404\\nnpm ERR! 404 not found')", "exit code 1: code E404; 404 not found"),
        ("sys.exit(3)", "exit code 3: no message"),
        ("", "npm wrote no tarball"),
    ],
)
def test_npm_that_fails_is_an_error_with_what_it_said(
    script: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(DataError, match=f"npm pack a@1: {expected}"):
        network.npm_pack("a@1", tmp_path / "npm", ignore)


def test_npm_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, "time.sleep(60)")
    monkeypatch.setattr(network, "NPM_TIMEOUT", 0.1)
    monkeypatch.setattr(network, "NPM_TRIES", 1)
    with pytest.raises(DataError, match="not done after"):
        network.npm_pack("a@1", tmp_path / "npm", ignore)


def test_an_interruption_ends_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(
        tmp_path / "bin", monkeypatch, "import os\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    pid = tmp_path / "npm" / "pid"

    def interrupt(event: Event) -> None:
        if pid.exists() and pid.read_text():
            raise Interrupted(signal.SIGINT, "interrupted by SIGINT")

    with pytest.raises(Interrupted):
        network.npm_pack("a@1", tmp_path / "npm", interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_machine_without_npm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm is not on the PATH"):
        network.npm_pack("a@1", tmp_path / "npm", ignore)


def test_an_npm_of_the_current_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, "pathlib.Path('a-1.tgz').touch()")
    monkeypatch.chdir(tmp_path / "bin")
    monkeypatch.setenv("PATH", os.pathsep.join((".", "", "../bin")))
    with pytest.raises(DataError, match="npm is not on the PATH"):
        network.npm_pack("a@1", tmp_path / "npm", ignore)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("request to https://me:secret@mirror.example/a failed", "request to https://***@mirror.example/a failed"),
        ("//mirror.example/:_authToken=abc", "//mirror.example/:_authToken***"),
        ("invalid _password = 'abc' in config", "invalid _password*** in config"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("GET https://mirror.example/a?token=abc&x=1", "GET https://mirror.example/a?***&***"),
        ("401 for npm_0123456789abcdef", "401 for ***"),
        ("host hunter2-hunter2.mirror.example not found", "host ***.mirror.example not found"),
        ("404 Not Found - GET https://mirror.example/a - Not found",) * 2,
    ],
)
def test_nothing_secret_of_what_npm_said_is_shown(said: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_TOKEN", "hunter2-hunter2")
    assert network.without_secrets(said) == shown


def is_alive(pid: int) -> bool:
    """Also of a process that ended and was not waited for, which is dead."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_nothing_of_npm_outlives_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('pids.new').write_text(f'{os.getpid()} {child.pid}')\n"
        "pathlib.Path('pids.new').rename('pids')\n"
        "time.sleep(600)"
    )
    fake_npm(tmp_path / "bin", monkeypatch, script)
    pids = tmp_path / "npm" / "pids"
    ours = "from pathlib import Path; from resnetcli.data import network; from resnetcli.events import ignore; "
    ours += f"network.npm_pack('a@1', Path({str(tmp_path / 'npm')!r}), ignore)"
    with subprocess.Popen([sys.executable, "-c", ours]) as process:
        while not pids.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    until = time.monotonic() + 60  # only a failure takes that long
    while any(alive := [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)]):
        assert time.monotonic() < until, alive
        time.sleep(0.05)


class Registry(http.server.ThreadingHTTPServer):
    """Knows no package, and keeps who asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.tokens: list[str | None] = []


class Asked(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization"))
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here")
def test_npm_obeys_the_users_configuration_and_none_above_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder above claims all below it for its workspaces, so that its .npmrc would count for them, too."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOME_TOKEN", "not-for-others")
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    project = tmp_path / "project"
    folder = project / "cache" / "downloads" / "npm"
    for path in (tmp_path / "home", project):
        path.mkdir()
    (project / "package.json").write_text('{"name": "x", "version": "1.0.0", "workspaces": ["cache/**"]}')
    with Registry() as theirs, Registry() as mirror:
        threads = [threading.Thread(target=one.serve_forever, args=(0.01,)) for one in (theirs, mirror)]
        for thread in threads:
            thread.start()
        for registry, path, token in ((theirs, project, "${SOME_TOKEN}"), (mirror, tmp_path / "home", "of-the-user")):
            place = f"//127.0.0.1:{registry.server_port}/"
            (path / ".npmrc").write_text(f"registry=http:{place}\n{place}:_authToken={token}\n")
        with pytest.raises(DataError, match="E404") as caught:
            network.npm_pack("no-such-package@1.0.0", folder, ignore)
        for registry, thread in zip((theirs, mirror), threads, strict=True):
            registry.shutdown()
            thread.join()
    assert theirs.tokens == []
    assert set(mirror.tokens) == {"Bearer of-the-user"}
    assert "of-the-user" not in caught.value.message
