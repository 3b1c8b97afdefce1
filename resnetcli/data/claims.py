"""The memory and work that a picture takes which Pillow has opened, by what it claims, and what all take together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from PIL import Image

from resnetcli.data.headers import MAX_PIECES, MAX_PIXELS, Header

SLOW_DECODERS = frozenset(("qoi", "ppm", "ppm_plain", "bmp_rle"))
"""Those that Pillow has in Python; `ppm` is for values that are not of 8 bits."""

MAX_SLOW_STEPS = 6_000_000
"""Of such a decoder, which takes about a million of them a second."""

MAX_BYTES = 2 * 2**30
"""Memory of one picture while it is decoded and converted, as `memory_of` estimates it."""

BUDGET_BYTES = 2**30
"""Pictures that are decoded side by side need at most this much together, or it is one alone."""

DECODER_BYTES = {"WEBP": 16, "AVIF": 16, "JPEG2000": 24, "HEIF": 16}
"""A pixel, of what decoders allocate beside Pillow's own image."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""A pixel, of Pillow's own image; 4 in all other modes."""

_in_use = 0
_changed = threading.Condition()


@contextmanager
def memory(claimed: int) -> Iterator[None]:
    """Waits until `claimed` bytes are within `BUDGET_BYTES`, or nobody else decodes."""
    global _in_use
    with _changed:
        _changed.wait_for(lambda: not _in_use or _in_use + claimed <= BUDGET_BYTES)
        _in_use += claimed
    try:
        yield
    finally:
        with _changed:
            _in_use -= claimed
            _changed.notify_all()


def memory_of(image: Image.Image, whole: int, header: Header, size: int) -> int:
    """Bytes that decoding and converting an opened picture takes, estimated from above and without its file of `size`
    bytes. `whole`: its pixels, of which `image` may have fewer where the decoder reduces them on the way.

    Raises ValueError where it is more than `MAX_BYTES`, or where a claim means too much work.
    """
    _check_slow(image, size)
    pixels = max(image.width * image.height, header.pixels)
    own = (4 if header.pixels else _BYTES.get(image.mode, 4)) * pixels
    need = own + pixels * DECODER_BYTES.get(image.format or "", 0)
    if header.scans > 1:
        need += 2 * len(image.getbands()) * whole  # coefficients, which wait for the last scan
    if image.format == "TIFF":
        need += _of_tiff(image)
    need = max(need, own + 8 * pixels)  # an RGB copy, and one that is turned upright
    if need > MAX_BYTES:
        raise ValueError(f"decoding it would take {need / 2**30:.1f} GiB; the limit is {MAX_BYTES >> 30} GiB")
    return need


def _check_slow(image: Image.Image, size: int) -> None:
    pixels = image.width * image.height
    codecs: set[str] = {tile[0] for tile in getattr(image, "tile", ())}
    for codec in codecs & SLOW_DECODERS & set(Image.DECODERS):
        # QOI has a step for each run of equal pixels; BMP has a pair of bytes, which need not lead to a pixel.
        steps = {"qoi": min(pixels, size), "bmp_rle": size // 2}.get(codec, pixels * len(image.getbands()))
        if steps > MAX_SLOW_STEPS:
            raise ValueError(
                f"{image.width}×{image.height} is too much for this kind of {image.format} file, whose decoder is "
                "slow; convert it to PNG"
            )


def _of_tiff(image: Image.Image) -> int:
    """A strip or tile, which libtiff allocates by its claim, and the picture again where it has to be turned."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]

    def whole(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"TIFF tag {tag} is {value!r:.40}")
        return value

    width, height, samples = whole(256, 0), whole(257, 0), whole(277, 1)
    bits = tags.get(258, (1,))
    separate = tags.get(284, 1) == 2
    a_pixel = max(bits) / 8 * (1 if separate else samples)
    planes = samples if separate else 1
    if 322 in tags or 323 in tags or 324 in tags:
        across, down = whole(322, 0), whole(323, 0)
        pieces = ceil(width / across) * ceil(height / down)
        block = across * down
    else:
        across, down = width, whole(278, 2**32 - 1)
        pieces = ceil(height / down)
        block = width * min(down, height)
    if pieces * planes > MAX_PIECES:
        raise ValueError(f"{pieces * planes:,} strips or tiles; at most {MAX_PIECES:,} are read")
    if pieces * block > 2 * MAX_PIXELS:
        raise ValueError(
            f"its strips or tiles cover {pieces * block / 1e6:,.0f} megapixels for {width}×{height}; "
            f"at most {2 * MAX_PIXELS // 10**6} are read"
        )
    need: int = ceil(block * a_pixel)
    if tags.get(262) == 6 and down < 2**32 - 1:  # YCbCr: libtiff converts a row of tiles, or a strip, to RGBA
        need += 4 * width * down
    turned = 0 if tags.get(274, 1) == 1 else _BYTES.get(image.mode, 4) * width * height
    return need + turned
