"""Looks through a file of torch.save before torch does: what it would cost to read, and what it would call.

`weights_only=True` keeps torch from running code, not from working: thirty bytes of pickle allocate gigabytes
(`bytearray(2130706432)`), a deflated entry unpacks to a thousand times its size, and a few kilobytes that build a
large object and hand it on again and again cost hours. A state_dict needs none of that.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from resnetcli.pickle_guard import Refused, check_pickle
from resnetcli.untrusted import open_plain

ZIP_MAGIC = b"PK\x03\x04"
"""By these bytes at the start, and by nothing else, torch.load knows its zip format."""
MAX_BYTES = 2**30
"""Room for the larger variant with the states of an optimiser, in float64."""
MAX_PICKLE_BYTES = 2**20
"""About ten times the pickle of the larger variant with the states of Adam; also of a zip file's directory."""
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
LEGACY_PICKLES = 5
"""Magic number, protocol, system, content, keys of the storages; their numbers follow."""

_NAMES = re.compile(
    r"torch (\w+Storage|Size|device|(b?float|u?int|complex)\d+|bool)|torch\._utils _rebuild_(tensor(_v2)?|parameter)"
    r"|torch\.nn\.parameter Parameter|collections (OrderedDict|Counter)|(__builtin__|builtins) set"
)
"""What a checkpoint with the states of an optimiser and a schedule may call. None allocates by a number that it is
given."""


def vetted_copy(path: Path) -> io.BytesIO:
    """The file in memory, as torch.load may read it: no more than was looked through. Raises Refused,
    OSError, and whatever a damaged file provokes."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise Refused(f"would need {size:,} bytes, more than any checkpoint of this network")
        magic = file.read(len(ZIP_MAGIC))
        file.seek(0)
        if magic == ZIP_MAGIC:
            return _copy_of_zip(file, size)
        pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
        for _ in range(LEGACY_PICKLES):
            check_pickle(pickles, _NAMES, known=MAGIC_NUMBER)
        file.seek(0)
        return io.BytesIO(file.read(size))


def _copy_of_zip(file: BinaryIO, size: int) -> io.BytesIO:
    """Written anew, so that nothing is left on which two readers of zip files could disagree."""
    copy = io.BytesIO()
    limited = _Limited(file)
    with zipfile.ZipFile(limited) as archive:
        limited.most = size
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Refused("has compressed entries, which torch.save never writes")
        if (needed := sum(entry.file_size for entry in entries)) > size:
            raise Refused(f"would need {needed:,} bytes and has {size:,}: its entries share bytes")
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise Refused("holds one entry twice")
        with zipfile.ZipFile(copy, "w") as written:
            for entry in entries:
                if entry.filename.lower().endswith(".pkl"):
                    if entry.file_size > MAX_PICKLE_BYTES:
                        raise Refused(f"has a pickle of {entry.file_size:,} bytes, more than a state_dict needs")
                    check_pickle(io.BytesIO(archive.read(entry)), _NAMES)
                written.writestr(entry.filename, archive.read(entry))
    copy.seek(0)
    return copy


class _Limited(io.RawIOBase):
    """A file of which no read gets more than `most` bytes: a zip directory is read whole, whatever it claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.most = MAX_PICKLE_BYTES

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            raise Refused(f"has a directory of {size:,} bytes, more than any checkpoint of this network")
        return self._file.read(self.most if size < 0 else size)
