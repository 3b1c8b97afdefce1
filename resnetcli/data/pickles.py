"""Reading the official python batches, which are pickles, without executing anything that a pickle could name.

A pickle asks for functions by name and calls them. Here the few names that a NumPy array needs are answered with inert
stand-ins that only keep what they are given, and every other name is refused, so that no code but the lines below
can run.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from resnetcli.config.base import CLASS_NAMES
from resnetcli.data.cifar10 import IMAGES_PER_BATCH, RECORD_BYTES, Records
from resnetcli.pickle_guard import Refused, check_pickle

MAX_NAME = 16
"""Bytes in the name of a dtype."""


def read_batch(data: bytes) -> Records:
    """Canonical records, `uint8[10000,3073]`, of one pickled batch; raises ValueError."""
    try:
        check_pickle(io.BytesIO(data))
        batch = _Unpickler(data).load()
    except Refused:
        raise
    except Exception as error:  # a damaged pickle can fail with almost anything
        raise ValueError(f"is no readable pickle ({type(error).__name__}: {str(error)[:200]})") from error
    if not isinstance(batch, dict):
        raise ValueError("is a pickle of something else than a CIFAR-10 batch")
    array, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    records = np.empty((IMAGES_PER_BATCH, RECORD_BYTES), np.uint8)
    if (
        not isinstance(labels, list)
        or len(labels) != IMAGES_PER_BATCH
        or any(type(label) is not int for label in labels)
    ):
        raise ValueError(f"has no list of {IMAGES_PER_BATCH:,} labels")
    wrong = [label for label in labels if not 0 <= label < len(CLASS_NAMES)]
    if wrong:
        raise ValueError(f"has the label {wrong[0]}, outside 0..{len(CLASS_NAMES) - 1}")
    records[:, 0] = labels
    records[:, 1:] = np.frombuffer(_pixels(array), np.uint8).reshape(records.shape[0], -1)
    return records


def _pixels(array: object) -> bytes:
    """The bytes of a stand-in for a C-ordered array `uint8[10000,3072]`."""
    shape = (IMAGES_PER_BATCH, RECORD_BYTES - 1)
    match array:
        case _Array(state=(_, found, _Dtype(name="u1"), False | 0, bytes() as raw)):
            if found == shape and len(raw) == shape[0] * shape[1]:
                return raw
    raise ValueError(f"has no array of {IMAGES_PER_BATCH:,}×{RECORD_BYTES - 1:,} bytes")


class _Array:
    """Stands in for numpy.ndarray; `state` is (version, shape, dtype, fortran order, bytes)."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, name: object = None, *rest: object) -> None:
        self.name = name.decode("ascii", "replace") if isinstance(name, bytes) and len(name) <= MAX_NAME else name

    def __setstate__(self, state: object) -> None:
        """Byte order and fields: a single byte has none."""


def _reconstruct(*args: object) -> _Array:
    return _Array()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left = len(data)

    _STAND_INS: ClassVar[dict[tuple[str, str], Callable[..., object]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return self._STAND_INS[module, name]
        except KeyError:
            raise Refused(f"is hostile: it asks for {module[:60]}.{name[:60]}, nothing was executed") from None

    def _encode(self, text: object, encoding: object = None) -> bytes:
        """Stands in for _codecs.encode, with which Python 3 writes bytes into old pickles; each text is there once."""
        if not isinstance(text, str):
            raise Refused("is no CIFAR-10 batch: it encodes something that is no text")
        self._left -= len(text)
        if self._left < 0:
            raise Refused("is hostile: it encodes the same text again and again")
        return text.encode("latin-1")

    def persistent_load(self, pid: object) -> Any:
        raise Refused("is no CIFAR-10 batch: it refers to other files")
