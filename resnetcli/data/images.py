"""Decoding: pictures that people have, turned into the 32×32 RGB pixels that the network sees."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from resnetcli.config.base import IMAGE_SIZE
from resnetcli.data import claims, headers, heif
from resnetcli.data.colours import to_rgb
from resnetcli.errors import DataError, ResnetCliError
from resnetcli.results.predict import NoticeKind

FORMATS = (
    *("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "AVIF", "TIFF"),
    *("PPM", "TGA", "ICO", "JPEG2000", "PCX", "QOI", "SGI", "HEIF"),
)
"""Decoders that may be used. Not among them: EPS, for which Pillow starts Ghostscript on the file's own program."""

EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """`pixels: uint8[size,size,3]`, RGB; `notices` say what was done to the picture on the way, one of each kind."""

    pixels: NDArray[np.uint8]
    noted: dict[NoticeKind, str]

    @property
    def notices(self) -> tuple[str, ...]:
        return tuple(self.noted.values())


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Inside, warnings of damaged metadata and large pictures are not shown, nor what Pillow logs and libtiff prints.
    For the whole process, so it is entered once, around all threads, and not for each picture."""
    nowhere, log = logging.NullHandler(), logging.getLogger("PIL")
    log.addHandler(nowhere)  # or Python would print what no handler takes
    before = _on_libtiff_error(None)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.removeHandler(nowhere)
        _on_libtiff_error(before)


def _on_libtiff_error(handler: int | None) -> int | None:
    """Sets libtiff's handler of errors, by default one that prints to stderr, and returns the one before. Through
    Pillow's own library, which leads to the libtiff that it uses; does nothing where that is linked in statically."""
    try:
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    before: int | None = set_handler(handler)
    return before


def decode(path: str | Path, size: int = IMAGE_SIZE, data: bytes | None = None) -> Decoded:
    """The picture upright, in RGB on white, `size`×`size`; one that is so already comes through bit by bit.

    With `data`, which are the bytes of the picture, `path` is only its name in messages.

    Raises DataError, which names `path`. Threads may call it side by side and wait for each other where their pictures
    would take too much memory together; `quiet_decoders` around them hides what decoders warn of.
    """
    try:
        if data is None and not Path(path).is_file():
            raise DataError(f"{path}: no such file" if not Path(path).exists() else f"{path}: not a regular file")
        with Path(path).open("rb") if data is None else io.BytesIO(data) as file:
            return _from_file(file, size)
    except ResnetCliError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image in a known format (PNG, JPEG, WebP, GIF, BMP, TIFF, …)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: more than {headers.MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # decoders meet damaged files with almost any exception
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be decoded: {reason}") from error


def _from_file(file: BinaryIO, size: int) -> Decoded:
    length = file.seek(0, os.SEEK_END)
    header = headers.check_file(file, length)
    file.seek(0)
    head = file.read(heif.HEAD_BYTES)
    if heif.is_heif(head) and heif.installed():
        heif.register()
    file.seek(0)
    try:
        opened = Image.open(file, formats=_formats())
    except UnidentifiedImageError as error:
        if reason := heif.missing(head):
            raise ValueError(reason) from error
        raise
    with opened as image:
        width, height = image.size
        headers.check_pixels(width, height)
        if image.format in ("JPEG", "MPO") and min(width, height) >= 16 * size:
            image.draft(None, (8 * size, 8 * size))  # decodes at 1/2, 1/4 or 1/8, which is far faster
        with claims.memory(claims.memory_of(image, width * height, header, length)):
            return _decode(image, width, height, size)


def _decode(image: Image.Image, width: int, height: int, size: int) -> Decoded:
    """`width` and `height` are those that the picture had before its decoder was told to reduce it."""
    noted: dict[NoticeKind, str] = {}
    # a phone's MPO holds its picture first and a depth map or a preview behind it
    if image.format != "MPO" and getattr(image, "is_animated", False):
        noted["first_frame"] = "animated or of several pages: the first was taken"
    image.load()
    headers.check_pixels(image.width, image.height)
    try:
        if len(image.info.get("exif") or b"") > headers.MAX_EXIF:  # of PNG, WebP and AVIF
            raise ValueError("too much to be read")
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # as with damaged pixels; these are whole
        orientation = 1
        noted["metadata"] = "its EXIF data are damaged and were ignored"
    picture, notice = to_rgb(image)
    if notice:
        noted["colours"] = notice
    if picture is not image:
        image.close()  # its pixels are not needed twice
    if orientation in UPRIGHT:
        picture = picture.transpose(UPRIGHT[orientation])
        noted["upright"] = f"turned upright (EXIF orientation {orientation})"
        if orientation >= 5:
            width, height = height, width
    if (width, height) != (size, size):
        if width != height:
            noted["cropped"] = f"centre-cropped to square from {width}×{height}, then resized to {size}×{size}"
        else:
            noted["resized"] = f"resized from {width}×{height} to {size}×{size}"
        picture = _square(picture, size)
    return Decoded(np.array(picture), noted)


def _square(picture: Image.Image, size: int) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=4.0)


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
