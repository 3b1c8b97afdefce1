"""Finding pictures: files, folders, globs, and what comes on stdin."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from resnetcli.data import heif, piped
from resnetcli.data.images import FORMATS
from resnetcli.errors import DataError

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

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


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
