"""What comes through a pipe: a list of paths, or the bytes of one picture."""

from __future__ import annotations

import codecs
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from PIL import Image

from resnetcli.errors import DataError

MAX_PATH_BYTES = 2**16
"""No system takes a longer path (Linux 4,096, macOS 1,024, Windows 65,534 bytes)."""

MAX_PICTURE_BYTES = 256 * 2**20
"""A picture of 64 megapixels with transparency, uncompressed. Other than a file's, its bytes are held in memory."""

SIGNATURE_BYTES = 16
"""What Pillow tells a format by."""
HEAD_BYTES = 64
"""Within so many a picture has its first NUL; fewer come where a person types."""
BLOCK_BYTES = 2**16

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""In front of what PowerShell writes into a file."""

_BINARY_STARTS = b"\x89\xff\n\x01"
"""Of PNG, of JPEG, of PCX and of SGI; all others have a NUL among their first bytes, or are `_PNM`."""
_PNM_START = re.compile(rb"P[1-6fF]\s")
_PNM = re.compile(rb"P[1-6fF]\s+(#[^\n]*\n\s*)*\d+\s")
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|svg)\b", re.IGNORECASE)


def entries(stream: BinaryIO, null: bool, formats: Sequence[str]) -> Iterator[str | bytes | DataError]:
    """Each path of a list, the bytes of a picture, or why it is neither.

    Paths are one a line, or with `null` one before each NUL, as `find -print0` writes them. They are decoded as the
    file system's names are, so that any file can be named; a byte order mark is left out. A picture is told by the
    signature of one of Pillow's `formats`. A path that is too long becomes an error, and the next one follows.
    """
    head = b"" if null else _head(stream)
    if _is_picture(head, formats):
        yield _picture(head, stream)
    elif _MARKUP.match(head):
        yield DataError("stdin holds HTML or XML, neither a picture nor a list of paths")
    elif b"\0" in head and not head.startswith(UTF16_MARKS):
        *names, _ = head.split(b"\0")
        if all(name and _printable(name) for name in names):
            yield DataError("stdin holds NUL characters: a list that is separated by them needs -0")
        else:
            yield _picture(head, stream)  # decoders say what it is not
    else:
        yield from _listed(head, stream, null)


def _head(stream: BinaryIO) -> bytes:
    """The first bytes, `HEAD_BYTES` at least unless there are no more, or a line that a person typed."""
    head = b""
    while len(head) < HEAD_BYTES and (block := _some(stream)):
        head += block
        starts_none = head[0] not in _BINARY_STARTS and not _PNM_START.match(head)
        if starts_none and head.endswith(b"\n") and _printable(head.translate(None, b"\r\n")):
            break
    return head


def _some(stream: BinaryIO) -> bytes:
    """What is there, without waiting for more; at the end b""."""
    return stream.read1(BLOCK_BYTES) if isinstance(stream, io.BufferedIOBase) else stream.read(BLOCK_BYTES)


def _printable(name: bytes) -> bool:
    return not name or (min(name) >= 32 and 127 not in name)


def _is_picture(head: bytes, formats: Sequence[str]) -> bool:
    if _PNM.match(head):
        return True
    # "BM", "GIF8" and "RIFF" may begin a name, but no name holds a NUL.
    if len(head) < SIGNATURE_BYTES or (b"\0" not in head[:HEAD_BYTES] and head[0] not in _BINARY_STARTS):
        return False
    Image.init()
    known = [Image.OPEN[name][1] for name in formats if name in Image.OPEN and name != "PPM"]
    return any(accepts is not None and accepts(head[:SIGNATURE_BYTES]) is True for accepts in known)


def _picture(head: bytes, stream: BinaryIO) -> bytes | DataError:
    whole = io.BytesIO()
    block = head
    while block:
        whole.write(block)
        if whole.tell() > MAX_PICTURE_BYTES:
            size = f"{MAX_PICTURE_BYTES // 2**20} MiB"
            return DataError(f"what comes on stdin has more than {size}: save the picture, and name its file")
        block = _some(stream)
    return whole.getvalue()


def _listed(head: bytes, stream: BinaryIO, null: bool) -> Iterator[str | DataError]:
    blocks: Iterator[bytes] = itertools.chain([head], iter(lambda: _some(stream), b""))
    try:
        if head.startswith(UTF16_MARKS):
            blocks = map(os.fsencode, codecs.iterdecode(blocks, "utf-16"))
        for name in _split(blocks, b"\0" if null else b"\n"):
            if isinstance(name, DataError):
                yield name
            elif path := name if null else name.rstrip(b"\r"):
                yield os.fsdecode(path)
    except (
        UnicodeDecodeError,
        UnicodeEncodeError,
    ) as error:  # UTF-16 that is cut, or a letter that no name has on this file system
        yield DataError(f"stdin is no list of paths ({error.reason})")


def _split(blocks: Iterator[bytes], separator: bytes) -> Iterator[bytes | DataError]:
    """What stands between separators; at most `MAX_PATH_BYTES` and a block are held."""
    error = DataError(f"a path on stdin has more than {MAX_PATH_BYTES:,} bytes, which no system takes")
    rest, skipping, first = b"", False, separator == b"\n"
    for block in blocks:
        rest += block.removeprefix(codecs.BOM_UTF8) if first and block else block
        first = first and not block
        *whole, rest = rest.split(separator)
        for name in whole:
            yield error if skipping or len(name) > MAX_PATH_BYTES else name
            skipping = False
        if skipping or len(rest) > MAX_PATH_BYTES:
            skipping, rest = True, b""
    if skipping:
        yield error
    elif rest:
        yield rest
