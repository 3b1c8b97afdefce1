"""HEIC and its kin, which phones write: read by pillow-heif where that is installed, else named with a way out."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

SUFFIXES = (".heic", ".heif", ".hif")

HEAD_BYTES = 64
"""In which signatures and brands are looked for."""

INSTALL = "pip install pillow-heif"

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_ANY = (b"mif1", b"msf1", b"mif2", b"miaf")
_AVIF = (b"avif", b"avis")


@cache
def installed() -> bool:
    return find_spec("pillow_heif") is not None


def is_heif(head: bytes) -> bool:
    """Whether a file that begins with these bytes is of pillow-heif's kinds; AVIF has the same container."""
    if head[4:8] != b"ftyp":
        return False
    brands = head[8 : min(len(head), int.from_bytes(head[:4], "big"))]
    return head[8:12] in _HEIC or (head[8:12] in _ANY and not any(brand in brands for brand in _AVIF))


@cache
def register() -> None:
    """From here on Pillow knows HEIF, by a plug-in that is only imported for such a file."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def missing(head: bytes) -> str | None:
    """Why a file that begins with these bytes is not read although it is an image, and what to do; None: unknown."""
    if is_heif(head):
        damaged = "a damaged HEIC or HEIF file, or one of a kind that pillow-heif does not know"
        return damaged if installed() else f"HEIC and HEIF need a plug-in: {INSTALL}"
    if head[4:8] == b"ftyp" and any(brand in head for brand in _AVIF):
        from PIL import features

        if not features.check("avif"):
            return "AVIF needs Pillow 11.3 or newer: pip install --upgrade pillow"
    if head[:2] == b"\xff\x0a" or head[4:12] == b"JXL \r\n\x87\n":
        return "JPEG XL is not read: convert it to PNG or JPEG"
    return None
