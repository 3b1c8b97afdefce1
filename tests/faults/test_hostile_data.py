"""CIFAR-10 damaged at every point: in the cache, on the disk, in archives, on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnetcli.cli.main import run
from resnetcli.data import archives, cifar10, network, pickles, sources
from resnetcli.data.cifar10 import BATCH_BYTES, BATCHES, RECORD_BYTES
from resnetcli.errors import DataError
from resnetcli.events import ignore
from tests.data.conftest import pickled, write_folder, write_tar
from tests.data.test_network import CONTENT, MD5, Handler, Server
from tests.data.test_network import server as server
from tests.faults.conftest import Broke

FAULT = (
    "dataset files missing, cut, flipped, label 10; downloads cut; hostile tar, zip and pickle members; archive bombs"
)
OUTCOME = "exit 3 names the file; nothing written outside; the cache never poisoned"

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes((byte ^ 1,)))


def label_10(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(17 * RECORD_BYTES)
        file.write(b"\x0a")


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


DAMAGES: dict[str, Damage] = {"missing": Path.unlink, "cut": cut, "flipped": flip, "label 10": label_10}
DAMAGES |= {"empty": lambda path: path.write_bytes(b""), "longer": longer}


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "fetch.lock"}


def fails(capsys: pytest.CaptureFixture[str], path: Path, *more: str) -> None:
    """`data download` from the disk alone ends with 3 and names `path`; the cache stays without a file."""
    cache = path.parent / "cache"
    before = listing(path.parent)
    code = run(["data", "download", "--source=disk", f"--data-dir={path.parent}", f"--cache-dir={cache}", *more])
    printed = capsys.readouterr()
    assert code == 3, printed.err
    assert str(path) in printed.err
    assert "Traceback" not in printed.err
    assert "unexpected" not in printed.err
    assert not cifar10.cache_path(cache).exists()
    assert listing(path.parent) - before <= {"cache", "cache/cifar10"}


@pytest.fixture
def random_batches() -> dict[str, bytes]:
    """Six batches of the right form that are not CIFAR-10."""
    rng = np.random.default_rng(0)
    record = rng.integers(0, 10, (10_000, 1), np.uint8)
    pixels = np.tile(rng.integers(0, 256, (1, RECORD_BYTES - 1), np.uint8), (10_000, 1))
    return dict.fromkeys(BATCHES, np.hstack((record, pixels)).tobytes())


@pytest.mark.cifar10
@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_named_and_not_used(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], broke: Broke
) -> None:
    path = cifar10.cache_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(cifar10.cache_path(None).read_bytes())
    DAMAGES[damage](path)
    for line in (["data", "verify"], ["data", "show", "--source=cache"]):
        assert run([*line, f"--cache-dir={tmp_path}"]) == 3
        assert str(path) in capsys.readouterr().err
    path.unlink(missing_ok=True)
    broke(12, FAULT, 2, OUTCOME)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_damaged_files_of_a_folder_are_named(
    form: str, tmp_path: Path, random_batches: dict[str, bytes], capsys: pytest.CaptureFixture[str], broke: Broke
) -> None:
    binary = form.endswith("bin")
    one = next(iter(random_batches.values()))
    whole = one if binary else pickled(np.frombuffer(one, np.uint8).reshape(-1, RECORD_BYTES))
    folder = write_folder(tmp_path / form, {f"{name}.bin" if binary else name: whole for name in BATCHES})
    fails(capsys, folder)  # not the canonical images: the digest says so
    for name in BATCHES[::5]:
        file = folder / (f"{name}.bin" if binary else name)
        for damage in DAMAGES.values():
            damage(file)
            with pytest.raises(DataError) as caught:
                cifar10.write(tmp_path / "cache" / "cifar10.bin", archives.read(folder), folder)
            assert str(folder) in caught.value.message
            file.write_bytes(whole)
    assert not (tmp_path / "cache" / "cifar10.bin").exists()
    broke(12, FAULT, 1 + 2 * len(DAMAGES), OUTCOME)


def member(name: str, data: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def header(kind: bytes, size: int, data: bytes = b"", name: str = "x") -> bytes:
    """One member with a size that need not be true."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, max(size, 0)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        block[124:136] = b"\xff" * 4 + struct.pack(">q", size)
        block[148:156] = b" " * 8
        block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block) + data + bytes(-len(data) % 512)


BIN = "cifar-10-batches-bin/data_batch_1.bin"
OUTSIDE = ("/tmp/x", "../x", "a/../../x", "..\\x", "C:\\x", "C:x", "\\\\host\\x", "//x", "./../x", "a/..", "..", "")
LINKS = {
    "SYM": b"2",
    "LNK": b"1",
    "CHR": b"3",
    "BLK": b"4",
    "FIFO": b"6",
    "CONT": b"7",
    "unknown": b"Z",
    "sparse": b"S",
}


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(10**6))
    return buffer.getvalue()


def hostile_archives() -> dict[str, bytes]:
    """What a file called cifar-10-binary.tar.gz may hold, before compression or as it is."""
    packed: dict[str, bytes] = {f"outside {name!r}": tar_of(member(name)) for name in OUTSIDE}
    packed |= {f"a {kind}": tar_of(member(BIN, type=code, linkname="/etc/passwd")) for kind, code in LINKS.items()}
    packed |= {
        "a short batch": tar_of(member(BIN, bytes(1000))),
        "a batch twice": tar_of(member("package/test_lables.json", b"[]"), member("package/test_lables.json", b"[]")),
        "many members": tar_of(*(member(f"f{i}") for i in range(2000))),
        "a negative size": header(b"0", -512) * 3,
        "a negative extended size": header(b"x", -512) * 3,
        "a terabyte": header(b"0", 10**12, name=BIN),
        "digits in an extended header": header(b"x", 10**6, b"1" * 10**6) + tar_of(member("a")),
        "digits in a global header": header(b"g", 10**6, b"1" * 10**6) + tar_of(member("a")),
        "a long name without an end": header(b"L", 2**33) + bytes(10**6),
        "an extended header of nonsense": header(b"x", 100, b"\xff=" * 50) + tar_of(member("a")),
        "an extended size": header(b"x", 20, b"20 size=99999999999\n") + header(b"0", 0, name=BIN),
        "sparse in an extended header": header(b"x", 30, b"30 GNU.sparse.map=9,9,9,9,9,9\n") + tar_of(member("a")),
        "two forms": tar_of(member("package/test_lables.json", b"[]"), member("cifar-10-batches-py/readme", b"")),
        "zeros": bytes(10**7),
        "a bomb of zeros": header(b"0", 60 * 2**20, name="x") + bytes(400 * 2**20),
        "nothing": b"",
        "noise": np.random.default_rng(0).bytes(10**5),
    }
    files = {name: gzip.compress(data, 1) for name, data in packed.items()}
    tar = gzip.compress(tar_of(member(BIN, bytes(10**5))))
    files |= {f"cut at {share:.0%}": tar[: int(len(tar) * share)] for share in (0, 0.1, 0.5, 0.9, 0.99)}
    files |= {"a zip file": zip_of(BIN), "a zip file that points outside": zip_of("../../x"), "text": b"hello" * 1000}
    return files | {"gzip in gzip": gzip.compress(tar), "a flipped bit": tar[:60] + bytes((tar[60] ^ 1,)) + tar[61:]}


def test_hostile_archives_are_named_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broke: Broke
) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    cases = hostile_archives()
    for data in cases.values():
        path.write_bytes(data)
        fails(capsys, path)
    broke(12, FAULT, len(cases), OUTCOME)


def hostile_pickles() -> dict[str, bytes]:
    labels, pixels = b"]" + b"(" + b"K\x00" * 10_000 + b"e", b"N"
    start = b"\x80\x02}(U\x06labels" + labels + b"U\x04data"
    return {
        "a function": b"\x80\x02cos\nsystem\nU\x02ls\x85R.",
        "a function by its stack name": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "an instance": b"(ios\nsystem\nU\x02ls\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "a great number in the memo": b"\x80\x02Nr\x00\x00\x00\x10.",
        "a greater one": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "one in text": b"Np4294967295\n.",
        "long bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        "empty containers": b"\x80\x02" + b"}" * 1_000_000 + b".",
        "keys of one hash": pickle.dumps(dict.fromkeys((i * (2**61 - 1) for i in range(200)), 0), 2),
        "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "a frame": b"\x80\x04\x95" + b"\xff" * 8 + b".",
        "no array": start + pixels + b"u.",
        "an array of an array": start + b"cnumpy\nndarray\n)\x81" * 100 + b"u.",
        "nesting": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "tuples": b"N" + b"\x85" * 1_000_000 + b".",
        "label 10": pickle.dumps({b"labels": [10] * 10_000, b"data": b""}, 2),
        "text for bytes": pickle.dumps({"labels": ["0"] * 10_000}, 2),
        "an encoding": b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x08\x00\x00\x00punycode\x86R.",
    }


def test_hostile_pickles_of_a_batch_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broke: Broke
) -> None:
    cases = hostile_pickles()
    for name, data in cases.items():
        with pytest.raises(ValueError, match=r"is |has "):
            pickles.read_batch(data)
        assert data, name
    whole = cases["a function"] + bytes(30_730_000)
    path = write_tar(tmp_path / "cifar-10-python.tar.gz", {f"cifar-10-batches-py/{name}": whole for name in BATCHES})
    fails(capsys, path)
    broke(12, FAULT, len(cases) + 1, OUTCOME)


def test_a_download_cut_anywhere_is_never_taken_for_whole(server: Server, tmp_path: Path, broke: Broke) -> None:
    plans: list[list[str | int]] = [["cut"] * 3, [500] * 3, [404], ["cut", 404], [503, "cut", 500], ["cut", 416, "cut"]]
    for number, plan in enumerate(plans):
        server.plan = list(plan)
        target = tmp_path / str(number) / "a.gz"
        target.parent.mkdir()
        with pytest.raises(DataError):
            network.download(server.url, target, MD5, ignore)
        assert not target.exists()
        server.plan = []
        network.download(server.url, target, MD5, ignore)  # what was left does no harm
        assert target.read_bytes() == CONTENT
    broke(12, FAULT, len(plans), OUTCOME)


def test_a_download_without_an_end_is_ended_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broke: Broke
) -> None:
    def pour(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(2**16))
        except OSError:
            pass

    monkeypatch.setattr(network, "MAX_BYTES", 2**22)
    monkeypatch.setattr(Handler, "do_GET", pour)
    with pytest.raises(DataError, match="the server sends more than 4,194,304 bytes"):
        network.download(server.url, tmp_path / "a.gz", MD5, ignore)
    assert list(tmp_path.iterdir()) == []
    broke(12, FAULT, 1, OUTCOME)


def test_an_official_archive_with_other_images_is_refused_and_kept_from_the_cache(
    tmp_path: Path, random_batches: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, broke: Broke
) -> None:
    """Even where the archive's md5 is the expected one: that sum proves nothing."""
    from torchvision.datasets import CIFAR10

    archive = write_tar(tmp_path / "x.tar.gz", {f"cifar-10-batches-bin/{n}.bin": d for n, d in random_batches.items()})
    with archive.open("rb") as file:
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.file_digest(file, "md5").hexdigest())
    monkeypatch.setattr(CIFAR10, "url", archive.as_uri())
    options = sources.DataOptions(source="official", cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match="does not have the canonical digest"):
        sources.fetch(options, ignore)
    assert not cifar10.cache_path(tmp_path / "cache").exists()
    assert len(random_batches["test_batch"]) == BATCH_BYTES
    broke(12, FAULT, 1, OUTCOME)
