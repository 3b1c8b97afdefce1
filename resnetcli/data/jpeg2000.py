"""The claims of a JPEG 2000 file: OpenJPEG allocates by tiles, components, precincts and code-blocks, all at once."""

from __future__ import annotations

import struct
from typing import BinaryIO

MAX_COMPONENTS, MAX_TILES = 4, 4096
"""RGB and alpha; and OpenJPEG allocates for every tile before it decodes one."""

MAX_BOX = 4 * 2**20
"""Bytes of the box in front of the code stream that holds further ones, which Pillow reads one by one."""

MAX_BOXES, MAX_MARKERS = 4096, 1_000_000
"""That are walked: a box of 8 bytes and a marker of 4 are a step of Python each. Usual are some ten boxes, and a few
markers a tile."""

MAX_BITS = 16
"""Of a component."""

MIN_CODE_BLOCK_BITS, MIN_PRECINCT_BITS = 4, 5
"""Logarithms of their sides. Smaller ones make more structures than pixels; usual are 5 or 6, and 7 to 15."""

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


def check(file: BinaryIO, head: bytes, size: int) -> tuple[int, int]:
    """Width and height of the code stream; (0, 0) where `head` begins no JPEG 2000 file. Raises ValueError."""
    if head[:12] == _SIGNATURE:
        at = _code_stream(file)
    elif head[:4] == b"\xff\x4f\xff\x51":
        at = 0
    else:
        return 0, 0
    return _walk(file, at, size)


def _code_stream(file: BinaryIO) -> int:
    """Where the code stream begins in the boxes of a JP2 file. Raises ValueError where there is none."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        box = file.read(16)
        if len(box) < 8:
            break
        length, skip = int.from_bytes(box[:4], "big"), 8
        if length == 1:
            length, skip = int.from_bytes(box[8:], "big"), 16
        if box[4:8] == b"jp2c":
            return at + skip
        if length < skip or (box[4:8] == b"jp2h" and length > MAX_BOX):
            break
        at += length
    raise ValueError("no JPEG 2000 code stream")


def _walk(file: BinaryIO, at: int, size: int) -> tuple[int, int]:
    """All markers of the main header and of the tile parts, to whose ends the lengths in front of them lead."""
    extent, part_end = (0, 0), size
    at += 2
    for _ in range(MAX_MARKERS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or at >= size:
            break
        marker, length = struct.unpack(">HH", head)
        if marker == _EOC:
            break
        if marker == _SOD:
            if part_end <= at:
                break
            at = part_end
            continue
        body = file.read(max(0, length - 2))
        if marker == _SIZ:
            extent = _extent(body)
        elif marker == _COD:
            _check_coding(body[:1], body[5:])
        elif marker == _COC:
            _check_coding(body[1:2], body[2:])
        elif marker == _SOT and len(body) >= 8:
            part = int.from_bytes(body[2:6], "big")
            part_end = at + part if part else size
        at += 2 + length
    if extent == (0, 0):
        raise ValueError("no JPEG 2000 code stream")
    return extent


def _extent(body: bytes) -> tuple[int, int]:
    if len(body) < 36:
        raise ValueError("no JPEG 2000 code stream")
    right, lower, left, upper, across, down, tile_left, tile_upper, components = struct.unpack(">8IH", body[2:36])
    if components > MAX_COMPONENTS:
        raise ValueError(f"{components:,} components; at most {MAX_COMPONENTS} are read")
    if any(1 + (depth & 0x7F) > MAX_BITS for depth in body[36::3]):
        raise ValueError(f"components of more than {MAX_BITS} bits")
    if not across or not down:
        raise ValueError("tiles without size")
    tiles = -((tile_left - right) // across) * -((tile_upper - lower) // down)
    if tiles > MAX_TILES:
        raise ValueError(f"{tiles:,} tiles; at most {MAX_TILES:,} are read")
    return max(0, right - left), max(0, lower - upper)


def _check_coding(style: bytes, parameters: bytes) -> None:
    """`parameters`: levels, code-block width and height, style, transform, and the precincts if `style` says so."""
    if len(style) < 1 or len(parameters) < 5:
        raise ValueError("JPEG 2000 coding parameters end early")
    if min(parameters[1], parameters[2]) + 2 < MIN_CODE_BLOCK_BITS:
        raise ValueError(f"code-blocks smaller than {2**MIN_CODE_BLOCK_BITS} pixels a side are not read")
    if style[0] & 1 and any(min(p & 15, p >> 4) < MIN_PRECINCT_BITS for p in parameters[5:]):
        raise ValueError(f"precincts smaller than {2**MIN_PRECINCT_BITS} pixels a side are not read")
