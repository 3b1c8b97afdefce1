"""A list of paths on stdin, whatever its names are made of, or one picture."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetcli.data import finding, images, piped
from resnetcli.errors import DataError

POSIX_NAMES = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")


class Trickle(io.RawIOBase):
    """Gives the bytes of a pipe a few at a time."""

    def __init__(self, content: bytes, step: int) -> None:
        self.content, self.step = io.BytesIO(content), step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        block = self.content.read(min(self.step, len(buffer)))
        buffer[: len(block)] = block
        return len(block)


def entries(content: bytes, null: bool = False, step: int = 0) -> list[str | bytes]:
    """What is found; errors as "!message"."""
    stream = io.BufferedReader(Trickle(content, step)) if step else io.BytesIO(content)
    found = piped.entries(stream, null, images.FORMATS)
    return [f"!{entry.message}" if isinstance(entry, DataError) else entry for entry in found]


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(
    ("content", "null", "paths"),
    [
        (b"a.png\nb c.png\n", False, ["a.png", "b c.png"]),
        (b"a.png\r\n\r\n\nb.png", False, ["a.png", "b.png"]),
        (b"a.png\0two\nlines.png\0\0 \r\0", True, ["a.png", "two\nlines.png", " \r"]),
        (b"\xef\xbb\xbfa.png\nb.png\n", False, ["a.png", "b.png"]),
        ("\ufeffvögel.png\r\nb.png\r\n".encode("utf-16-le"), False, ["vögel.png", "b.png"]),
        ("\ufeffa.png\nb.png\n".encode("utf-16-be"), False, ["a.png", "b.png"]),
        (b"\n" * 100 + b"a.png\n", False, ["a.png"]),
        (b"BM\nGIF89a\nP6\nPhoto.jpg\nRIFF.webp\n", False, ["BM", "GIF89a", "P6", "Photo.jpg", "RIFF.webp"]),
        (b"\x1b]0;owned\x07.png\na.png\n", False, ["\x1b]0;owned\x07.png", "a.png"]),
        (b"", False, []),
        (b"", True, []),
    ],
)
def test_a_list_is_its_paths(content: bytes, null: bool, paths: list[str], step: int) -> None:
    assert entries(content, null, step) == paths


@POSIX_NAMES
@pytest.mark.parametrize("null", [False, True])
def test_a_name_that_is_no_text_is_read_as_the_file_system_gives_it(null: bool, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / os.fsdecode(b"caf\xe9.png"), "PNG")
    (name,) = (os.fsencode(entry.name) for entry in tmp_path.iterdir())
    separator = b"\0" if null else b"\n"
    found = entries(separator.join([b"a.png", name, b"b.png"]), null)
    assert found == ["a.png", "caf\udce9.png", "b.png"]
    assert images.decode(tmp_path / found[1]).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("step", [0, 1000])
def test_a_line_without_end_is_an_error_and_does_not_fill_the_memory(null: bool, step: int) -> None:
    separator = b"\0" if null else b"\n"
    endless = b"x" * (3 * piped.MAX_PATH_BYTES)
    first, longest, error, last, end = entries(
        separator.join([b"a.png", b"y" * piped.MAX_PATH_BYTES, endless, b"b.png", endless]), null, step
    )
    assert (first, len(longest), last) == ("a.png", piped.MAX_PATH_BYTES, "b.png")
    assert error == end == f"!a path on stdin has more than {piped.MAX_PATH_BYTES:,} bytes, which no system takes"


def test_paths_are_answered_before_the_list_ends() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as pipe:
        found = piped.entries(stream, False, images.FORMATS)
        for name in ("a.png", "Photo 2.jpg"):
            pipe.write(f"{name}\n".encode())
            assert next(found) == name


def test_a_list_separated_by_nul_without_the_switch_names_it() -> None:
    (error,) = entries(b"a.png\0v\xc3\xb6gel.png\0")
    assert error == "!stdin holds NUL characters: a list that is separated by them needs -0"


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n<html>", b"\n<html lang='en'>", b"<?xml version='1.0'?><svg/>"])
def test_a_page_in_place_of_a_picture_is_said_once(page: bytes) -> None:
    assert entries(page + b"\n<p>no such picture\n" * 100) == [
        "!stdin holds HTML or XML, neither a picture nor a list of paths"
    ]


def test_half_a_letter_of_utf16_is_an_error() -> None:
    (error,) = entries(b"\xff\xfe\n")
    assert "stdin is no list of paths (truncated data)" in str(error)


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("size", [(32, 32), (300, 257)])
@pytest.mark.parametrize(
    "suffix",
    ["png", "jpg", "bmp", "tif", "ppm", "pgm", "webp", "ico", "gif", "jp2", "pcx", "qoi", "sgi", "avif", "tga"],
)
def test_a_picture_is_told_by_its_signature(suffix: str, size: tuple[int, int], step: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    level = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size[1], size[0]) % 251
    image = Image.fromarray(level.astype(np.uint8)) if suffix == "pgm" else None
    (image or Image.merge("RGB", [Image.fromarray(level.astype(np.uint8))] * 3)).save(path)
    (found,) = finding.find(["-"], True, io.BytesIO(path.read_bytes()))
    assert entries(path.read_bytes(), step=step) == [path.read_bytes()]
    assert (found.path, found.error) == ("-", None)
    from_pipe, from_file = images.decode("-", data=found.data), images.decode(path)
    assert np.array_equal(from_pipe.pixels, from_file.pixels)
    assert from_pipe.notices == from_file.notices


def test_bytes_of_another_kind_are_an_error_in_the_place_of_the_picture() -> None:
    (found,) = finding.find(["-"], True, io.BytesIO(b"\x7fELF\x02\x01\x01\0" + bytes(100)))
    with pytest.raises(DataError, match="-: not an image in a known format"):
        images.decode(found.path, data=found.data)


def test_a_picture_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "MAX_PICTURE_BYTES", 2**20)

    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            buffer[:8] = b"\x89PNG\r\n\x1a\n"
            Endless.taken += len(buffer)
            return len(buffer)

    (error,) = piped.entries(io.BufferedReader(Endless()), False, images.FORMATS)
    assert isinstance(error, DataError)
    assert "more than 1 MiB: save the picture" in error.message
    assert Endless.taken < 2 * 2**20
