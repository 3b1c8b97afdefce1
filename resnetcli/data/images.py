"""Pictures that people have: finding them, and turning each into the 32×32 RGB pixels that the network sees."""

from __future__ import annotations

import ctypes
import glob
import io
import logging
import os
import re
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from resnetcli.config.base import IMAGE_SIZE
from resnetcli.data import claims, headers, heif, piped
from resnetcli.data.colours import to_rgb
from resnetcli.errors import DataError, ResnetCliError
from resnetcli.results.predict import NoticeKind

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".gif", ".webp", ".avif", ".avifs"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".ico", ".pcx", ".qoi", ".sgi"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
"""What is taken from a folder; a file that is named itself is tried whatever it is called."""

OTHER_SUFFIXES = (
    *heif.SUFFIXES,
    *(".jxl", ".jxr", ".svg", ".svgz", ".psd", ".psb", ".xcf", ".eps", ".exr", ".hdr"),
    *(".dds", ".icns", ".cur", ".fits", ".wmf", ".emf", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw"),
    *(".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr"),
)
"""Images too, but of kinds that cannot be read (HEIC: without its plug-in): left out of a folder and counted."""

FORMATS = (
    *("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "AVIF", "TIFF"),
    *("PPM", "TGA", "ICO", "JPEG2000", "PCX", "QOI", "SGI", "HEIF"),
)
"""Decoders that may be used. Not among them: EPS, for which Pillow starts Ghostscript on the file's own program."""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

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


@dataclass(frozen=True, slots=True)
class Found:
    """A picture to decode, or why `path` led to none (`error`). One that came on stdin is there already, as `data`."""

    path: str
    error: str | None = None
    data: bytes | None = None


@dataclass(slots=True)
class LeftOut:
    """What `find` saw in folders and globs and did not take: images of `OTHER_SUFFIXES`, by suffix, and folders that
    are links, which are not entered because links can lead anywhere and in circles."""

    suffixes: Counter[str] = field(default_factory=Counter)
    linked_folders: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """One for each kind of thing, with what to do; none where nothing was left out."""
        sentences = []
        if self.suffixes:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.suffixes.items()))
            plug_in = f", or {heif.INSTALL} for HEIC" if self.suffixes.keys() & set(heif.SUFFIXES) else ""
            sentences.append(f"left out, of kinds that cannot be read: {kinds}; convert them to PNG or JPEG{plug_in}")
        if self.linked_folders:
            names = ", ".join([*self.linked_folders[:3], *(["…"] if len(self.linked_folders) > 3 else [])])
            what = "linked folder" if len(self.linked_folders) == 1 else f"{len(self.linked_folders)} linked folders"
            sentences.append(f"not entered: {what} {names}; name what is to be entered")
        return sentences


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """`pixels: uint8[size,size,3]`, RGB; `notices` say what was done to the picture on the way, one of each kind."""

    pixels: NDArray[np.uint8]
    noted: dict[NoticeKind, str]

    @property
    def notices(self) -> tuple[str, ...]:
        return tuple(self.noted.values())


def find(
    paths: Sequence[str],
    recursive: bool,
    stdin: BinaryIO | None,
    left_out: LeftOut | None = None,
    *,
    null: bool = False,
) -> Iterator[Found]:
    """Expand files, folders (sorted, by suffix), globs (`**` too) and `-`, in their order.

    `-` is what `stdin` holds: a list of paths, one a line or with `null` before each NUL, or the bytes of one picture.
    What leads to nothing becomes an entry with an error and does not stop the others. Hidden files of a folder are
    left out; so are linked folders and images of kinds that cannot be read, which `left_out` then holds.
    """
    left_out = LeftOut() if left_out is None else left_out
    for path in paths:
        if path == "-":
            yield from _from_stdin(recursive, stdin, null, left_out)
        elif URL.match(path):
            yield from _from_path(path, recursive, left_out)
        elif glob.has_magic(path) and not os.path.exists(path):  # noqa: PTH110  # of a name too long, Path.exists raises
            yield from _from_glob(path, left_out)
        else:
            yield from _from_path(path, recursive, left_out)


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


def _from_stdin(recursive: bool, stdin: BinaryIO | None, null: bool, left_out: LeftOut) -> Iterator[Found]:
    if stdin is None:
        yield Found("-", "there is no stdin to read from")
        return
    for entry in piped.entries(stdin, null, FORMATS):
        if isinstance(entry, DataError):
            yield Found("-", entry.message)
        elif isinstance(entry, bytes):
            yield Found("-", data=entry)
        else:
            yield from _from_path(entry, recursive, left_out)


def _from_glob(pattern: str, left_out: LeftOut) -> Iterator[Found]:
    """Files that match; where the pattern leaves the suffix open, only pictures."""
    any_suffix = not glob.has_magic(Path(pattern).suffix) and Path(pattern).suffix
    files = [
        match
        for match in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
        if Path(match).is_file()
    ]
    matches = files if any_suffix else [match for match in files if _is_picture(match, left_out)]
    yield from map(Found, matches)
    if not matches:
        yield Found(pattern, f"{pattern}: matches no picture")


def _from_path(path: str, recursive: bool, left_out: LeftOut) -> Iterator[Found]:
    try:
        is_folder, exists = Path(path).is_dir(), Path(path).exists()
    except (OSError, ValueError) as refusal:  # a name too long, a character that no file system takes
        yield Found(path, f"{path}: {getattr(refusal, 'strerror', None) or refusal}")
        return
    if not is_folder:
        yield Found(path) if exists else Found(path, f"{path}: {_missing(path)}")
        return
    refused: list[OSError] = []
    count, here = 0, LeftOut()
    for folder, folders, files in os.walk(path, onerror=refused.append):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        here.linked_folders += [linked for name in folders if _is_link(linked := str(Path(folder) / name))]
        for name in sorted(files):
            if not name.startswith(".") and _is_picture(name, here):
                count += 1
                yield Found(str(Path(folder) / name))
    for error in refused:
        yield Found(str(error.filename), f"{error.filename}: {error.strerror}")
    left_out.suffixes += here.suffixes
    left_out.linked_folders += here.linked_folders
    if not count and not refused:
        seen = [f"looked for {', '.join(SUFFIXES[:5])}, …", *here.sentences()]
        yield Found(path, f"{path}: the folder holds no picture ({'; '.join(seen)})")


def _missing(path: str) -> str:
    if URL.match(path):
        return f"URLs are not fetched; do `curl -fsSL {shlex.quote(path)} | resnetcli predict -`"
    return "no such file"


def _is_link(folder: str) -> bool:
    """What os.walk does not enter."""
    if sys.version_info >= (3, 12) and os.path.isjunction(folder):
        return True
    return Path(folder).is_symlink()


def _is_picture(name: str, left_out: LeftOut) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES or (suffix in heif.SUFFIXES and heif.installed()):
        return True
    if suffix in OTHER_SUFFIXES:
        left_out.suffixes[suffix] += 1
    return False
