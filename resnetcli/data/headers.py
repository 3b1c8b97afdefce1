"""What the headers of a picture file claim, held against limits before Pillow opens the file.

Pillow keeps an object of every chunk, tag and segment that there is, and some of its decoders allocate as soon as they
know a size: a file of a megabyte can claim gigabytes, and hours. Only the formats of which that is so are walked here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from resnetcli.data import jpeg2000

MAX_PIXELS = 64_000_000

MAX_WHOLE_FILE = 128 * 2**20
"""Bytes of a file in a format of which Pillow reads all before it decodes (WebP, AVIF, HEIF)."""

MAX_METADATA = 64 * 2**20
"""Bytes of a PNG or JPEG file that are no pixels; Pillow keeps them."""

MAX_PIECES = 262_144
"""Chunks, strips, tiles, values: each costs an object of Python or a call of a decoder."""

MAX_BLOCKS = 1_000_000
"""Of a GIF, up to its second picture; the first may have 300,000 of 255 bytes each."""

MAX_TEXT_HEADER = 2**16
"""Bytes of the header of a PPM and its kin, comments included."""

MAX_EXIF = 2**20
"""Bytes; a segment of JPEG has 65,533 at most, but they add up, and a value of them can be a list of millions."""

MAX_TAGS = 4096
"""In one directory of a TIFF, each of which costs an object of Python; cameras write some tens."""

MAX_SEGMENTS = 4096
"""Of a JPEG; ICC profiles, extended XMP and the tables of scans take some hundreds."""

MAX_SCANS = 100
"""Of a JPEG: each goes through all pixels again. Usual are 1 and about 10; libtiff has the same limit."""


def check_pixels(width: int, height: int, what: str = "") -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{what}{width}×{height} is more than {MAX_PIXELS // 10**6} megapixels")


@dataclass(frozen=True, slots=True)
class Header:
    """What `check_file` saw: pixels of the largest picture inside (0: not looked for), scans of a JPEG."""

    pixels: int = 0
    scans: int = 1


def check_file(file: BinaryIO, size: int) -> Header:
    """Raises ValueError where Pillow would need too much to open this file of `size` bytes; its position moves."""
    file.seek(0)
    head = file.read(32)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(file, head)
    elif head[:2] == b"\xff\xd8":
        return Header(scans=_scans(file))
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        _check_png(file, size)
    elif head[:4] == b"\0\0\1\0":
        return Header(pixels=_largest_of_ico(file))
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        _check_gif(file, head[10])
    elif head[:1] == b"P" and head[1:2] in b"0123456yfF":
        _check_ppm(file)
    elif head[8:12] == b"WEBP" or head[4:8] == b"ftyp":
        if size > MAX_WHOLE_FILE:
            raise ValueError(f"{size >> 20:,} MiB; files of this format are read up to {MAX_WHOLE_FILE >> 20} MiB")
        check_pixels(*_webp_size(head))
    else:
        check_pixels(*jpeg2000.check(file, head, size))
    return Header()


def _webp_size(head: bytes) -> tuple[int, int]:
    """Pillow allocates two canvases of this size before it tells it; (0, 0) of anything else."""
    if head[8:15] == b"WEBPVP8" and len(head) >= 30:
        if head[15:16] == b"X":
            return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        if head[15:16] == b"L":
            bits = int.from_bytes(head[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        return struct.unpack_from("<H", head, 26)[0] & 0x3FFF, struct.unpack_from("<H", head, 28)[0] & 0x3FFF
    return 0, 0


def _largest_of_ico(file: BinaryIO) -> int:
    """Pixels of the largest picture of an icon, which may be larger than the icon says. Raises ValueError."""
    file.seek(4)
    count, most = int.from_bytes(file.read(2), "little"), 0
    entries = file.read(16 * count)
    for place in range(0, len(entries) - 15, 16):
        file.seek(int.from_bytes(entries[place + 12 : place + 16], "little"))
        inside = file.read(24)
        if len(inside) < 24:
            continue
        png = inside[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", inside[16:24]) if png else map(abs, struct.unpack("<ii", inside[4:12]))
        check_pixels(width, height)
        most = max(most, width * height)
    return most


_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Of JPEG. In compressed data 0xff is followed by zero or a restart marker; decoders skip what else lies between."""


def _scans(file: BinaryIO) -> int:
    """Scans of a JPEG file, 1 where the first holds all components. Raises ValueError where there are too many, or too
    many segments in front of them."""
    at, segments, scans, metadata, exif, components, progressive = 2, 0, 0, 0, 0, 0, False
    while (found := _next_marker(file, at)) is not None:
        file.seek(found)
        head = file.read(20)
        kind, length = head[1], int.from_bytes(head[2:4], "big")
        if kind == 0xD9 or len(head) < 4:
            break
        if kind in (0x01, 0xD8):
            at = found + 2
            continue
        at = found + 2 + length
        segments += 1
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            progressive, components = kind in (0xC2, 0xC6, 0xCA, 0xCE), head[9] if len(head) > 9 else 0
        if kind == 0xDA:
            scans += 1
            if not progressive and scans == 1 and len(head) > 4 and head[4] >= components:
                break
        else:
            metadata += length
            exif += length if head[4:10] == b"Exif\0\0" else 0
        if scans > MAX_SCANS:
            raise ValueError(f"more than {MAX_SCANS} scans")
        if exif > MAX_EXIF:
            raise ValueError(f"more than {MAX_EXIF >> 20} MiB of EXIF data")
        if segments > MAX_SEGMENTS or metadata > MAX_METADATA:
            raise ValueError(f"more than {MAX_SEGMENTS:,} segments or {MAX_METADATA >> 20} MiB of metadata")
    return max(1, scans)


def _next_marker(file: BinaryIO, at: int) -> int | None:
    step = 2
    while True:
        file.seek(at)
        data = file.read(step)
        if found := _MARKER.search(data):
            return at + found.start()
        if len(data) < 2:
            return None
        at += len(data) - 1
        step = 2**18


def _check_png(file: BinaryIO, size: int) -> None:
    at, metadata = 8, 0
    for _ in range(MAX_PIECES):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length = int.from_bytes(head[:4], "big")
        at += 12 + length
        metadata += 0 if head[4:] in (b"IDAT", b"fdAT") else min(length, size)
        if metadata > MAX_METADATA:
            raise ValueError(f"more than {MAX_METADATA >> 20} MiB of metadata")
    raise ValueError(f"more than {MAX_PIECES:,} chunks")


def _check_gif(file: BinaryIO, flags: int) -> None:
    """The blocks up to a second picture, of which Pillow keeps or skips each with an object of Python."""
    file.seek(13 + _colours(flags))
    pictures, inside = 0, False
    for _ in range(MAX_BLOCKS):
        kind = file.read(1)
        if not kind:
            return
        if inside:  # a length, and so many bytes
            inside = kind != b"\0"
            file.seek(kind[0], 1)
        elif kind == b"!":
            file.seek(1, 1)
            inside = True
        elif kind == b",":
            where = file.read(9)
            pictures += 1
            if pictures == 2 or len(where) < 9:
                return
            file.seek(_colours(where[8]) + 1, 1)
            inside = True
        elif kind == b";":
            return
    raise ValueError(f"more than {MAX_BLOCKS:,} blocks")


def _colours(flags: int) -> int:
    """Bytes of the table of colours that follows."""
    return 6 << (flags & 7) if flags & 128 else 0


def _check_ppm(file: BinaryIO) -> None:
    """Pillow reads the header byte by byte, comments of any length with it."""
    file.seek(0)
    header = re.sub(rb"#[^\r\n]*", b"", file.read(MAX_TEXT_HEADER))
    if len(header.split()) < 3 and len(file.read(1)):
        raise ValueError(f"its header is longer than {MAX_TEXT_HEADER >> 10} KiB")


_TIFF_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, of the types whose values become objects of Python; the others stay bytes."""

_TIFF_LAYOUT = frozenset((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 322, 323, 324, 325, 338))
"""Tags that say how much there is to be decoded."""

_TIFF_DIRECTORIES = (34665, 34853, 40965)
"""Tags that lead to further directories, which Pillow reads with the first: Exif, GPS, interoperability."""


def _check_tiff(file: BinaryIO, head: bytes) -> None:
    """No tag with too many values; those of the layout once, of which Pillow takes the last and libtiff the first."""
    order = "<" if head[:1] == b"I" else ">"
    big = 43 in head[2:4]
    counter, entry, width = ("Q", "HHQ8s", 20) if big else ("H", "HHI4s", 12)
    pointer = "Q" if big else "I"
    (first,) = struct.unpack_from(order + pointer, head, 8 if big else 4)
    directories, seen_at = [first], set()
    while directories:
        at = directories.pop()
        if at in seen_at:
            continue
        seen_at.add(at)
        file.seek(min(at, 2**62))
        start = file.read(struct.calcsize(order + counter))
        if len(start) < struct.calcsize(order + counter):
            continue
        (count,) = struct.unpack(order + counter, start)
        if count > MAX_TAGS:
            raise ValueError(f"a TIFF directory of {count:,} tags")
        data = file.read(count * width)
        seen = set()
        for place in range(0, len(data) - width + 1, width):
            tag, kind, values, value = struct.unpack_from(order + entry, data, place)
            if tag in seen and tag in _TIFF_LAYOUT:
                raise ValueError(f"TIFF tag {tag} is there twice")
            seen.add(tag)
            if kind in _TIFF_SIZES and values > MAX_PIECES:
                raise ValueError(f"TIFF tag {tag} has {values:,} values; at most {MAX_PIECES:,} are read")
            if tag in _TIFF_DIRECTORIES:
                directories.append(struct.unpack_from(order + (pointer if kind != 3 else "H"), value)[0])
