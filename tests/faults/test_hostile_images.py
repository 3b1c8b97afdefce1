"""Pictures of every kind that Pillow writes, and ten thousand that nobody meant to write."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from resnetcli.cli.main import run
from resnetcli.data import images
from resnetcli.errors import DataError
from tests.data.test_images import picture, png_header
from tests.faults.conftest import Broke
from tests.faults.hostile import good_model
from tests.faults.runner import ran

FAULT = "pictures: every mode and format Pillow writes, EXIF 1-8, cut, disguised, 100-megapixel bombs, mutated files"
OUTCOME = "right pixels where decodable, else one line; none stops the others; 0 tracebacks; bounded memory"
MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "RGBa",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "F",
)
EXACT = {"save_all": False, "quality": 100, "lossless": True, "subsampling": "4:4:4", "quality_mode": "rates"}
WIDE = {"PNG", "TIFF", "PPM", "ICO", "JPEG2000"}
"""Formats that keep more than 8 bits; others get what Pillow makes of 16 bits, which is white."""


def of_mode(mode: str) -> Image.Image:
    """The four quarters in this mode."""
    rgb = Image.fromarray(picture())
    grey = picture().astype(float).mean(axis=2)
    if mode in ("La", "RGBa"):
        return rgb.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.applyTransform(rgb, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert lab is not None
        return lab
    deep = {"I": grey * 257, "I;16": grey * 257, "F": grey / 255}
    kinds = {"I": np.int32, "I;16": np.uint16, "F": np.float32}
    return Image.fromarray(deep[mode].astype(kinds[mode])) if mode in deep else rgb.convert(mode)


def expected(mode: str) -> NDArray[np.float64]:
    """What the quarters look like in this mode, from their colours alone."""
    colours = picture().astype(float)
    if mode in ("I", "I;16", "F"):
        return np.repeat(colours.mean(axis=2)[..., None], 3, axis=2)
    if mode in ("L", "LA", "La"):
        return np.repeat((colours @ (0.299, 0.587, 0.114))[..., None], 3, axis=2)
    return np.array(of_mode(mode).convert("RGB")).astype(float) if mode in ("1", "P", "PA") else colours


def saved(mode: str, form: str) -> bytes | None:
    """None where this format does not take this mode."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"):
            of_mode(mode).save(buffer, form, **EXACT)
    except Exception:  # Pillow says so in many ways
        return None
    return buffer.getvalue()


MIDDLES = np.ix_((8, 24), (8, 24))


def test_every_mode_in_every_format_has_the_right_colours(tmp_path: Path, broke: Broke) -> None:
    Image.init()
    tried = right = 0
    for form in sorted(Image.SAVE):
        for mode in MODES:
            data = saved(mode, form)
            if data is None or (mode in ("I", "I;16", "F") and form not in WIDE):
                continue
            tried += 1
            path = tmp_path / f"{form}-{mode.replace(';', '')}"
            path.write_bytes(data)
            if form not in images.FORMATS:
                with pytest.raises(DataError, match="not an image in a known format"):
                    images.decode(path)
                continue
            with images.quiet_decoders():
                pixels = images.decode(path).pixels.astype(float)
            # At the middle of each quarter, so that lossy formats cannot blur it; P has a web palette, a dithered one.
            tolerance = 52 if mode in ("P", "PA") else 140 if mode == "1" and form in ("JPEG", "MPO", "WEBP") else 9
            assert np.abs(pixels[MIDDLES] - expected(mode)[MIDDLES]).max() <= tolerance, (form, mode)
            right += 1
    assert tried > 100
    assert right > 70
    broke(13, FAULT, tried, OUTCOME)


def originals() -> list[tuple[str, bytes]]:
    """One file of each format with what makes its decoder work: palettes, EXIF, frames, transparency, 16 bits."""
    Image.init()
    rgb = Image.fromarray(picture(48, 40))
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    exif[0x010E] = "a description"
    variants = [(name, rgb, {}) for name in images.FORMATS if name in Image.SAVE]
    variants += [
        (name, rgb, {"exif": exif}) for name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "MPO") if name in Image.SAVE
    ]
    variants += [
        (name, rgb, {"save_all": True, "append_images": [rgb, rgb]}) for name in ("GIF", "PNG", "WEBP", "TIFF")
    ]
    variants += [("PNG", rgb.convert(mode), {}) for mode in ("P", "LA", "RGBA", "1")]
    variants += [
        ("TIFF", rgb.convert(m), {"compression": c}) for m in ("CMYK", "L") for c in ("tiff_lzw", "tiff_deflate")
    ]
    variants += [("TIFF", rgb, {"compression": "jpeg"}), ("JPEG", rgb, {"progressive": True, "optimize": True})]
    variants += [("PNG", of_mode("I;16"), {}), ("TIFF", of_mode("F"), {}), ("PPM", of_mode("I"), {})]
    files = []
    for name, image, more in variants:
        buffer = io.BytesIO()
        image.save(buffer, name, **more)
        files.append((name, buffer.getvalue()))
    return files


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Flipped bits, overwritten numbers, cuts, doubled and exchanged pieces; checksums of PNG made right again."""
    chance = random.Random(seed)
    files = originals()
    for number in range(count):
        name, whole = files[number % len(files)]
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            at = chance.randrange(len(data)) if data else 0
            match chance.randrange(6):
                case 0:
                    data[at : at + 1] = bytes((chance.randrange(256),))
                case 1:
                    data[at : at + 1] = bytes((1 << chance.randrange(8),))
                case 2:
                    data[at : at + 4] = chance.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\0\0\1"))
                case 3:
                    del data[at : at + chance.randrange(1, 64)]
                case 4:
                    data[at:at] = data[at : at + chance.randrange(1, 64)]
                case 5 if chance.random() < 0.2:
                    del data[at:]
        if name == "PNG" and chance.random() < 0.7:
            data = bytearray(with_right_sums(bytes(data)))
        yield bytes(data)


def with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the right checksums, as far as there are chunks: damage gets past the first check."""
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        body = data[at + 4 : at + 8 + size]
        if at + 12 + size > len(data):
            break
        out.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + size
    return b"".join([*out, data[at:]])


@pytest.mark.slow
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.full)])
def test_mutated_pictures_decode_or_are_one_line(count: int, tmp_path: Path, broke: Broke) -> None:
    path, decoded = tmp_path / "x", 0
    messages: list[str] = []
    with images.quiet_decoders():
        for data in mutated(count, seed=count):
            path.write_bytes(data)
            try:
                assert images.decode(path).pixels.shape == (32, 32, 3)
                decoded += 1
            except DataError as error:
                messages.append(error.message)
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)
    assert 0.1 * count < decoded < 0.95 * count  # or the mutations would do nothing, or leave nothing
    broke(13, FAULT, count, OUTCOME)


def ico_around(png: bytes) -> bytes:
    """An icon that says 32×32 and holds this."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(png), 22) + png


def png_of(mode: str, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def disguised(folder: Path) -> dict[str, bool]:
    """Files by name, and whether they are pictures that can be answered."""
    good, jpeg = png_of("RGB", 32), saved("RGB", "JPEG")
    assert jpeg is not None
    text = zlib.compress(bytes(200 * 2**20), 9)
    chunk = b"zTXtk\0\0" + text
    exif_bomb = good[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + good[33:]
    files = {
        "a.png": (good, True),
        "jpeg-called.png": (jpeg, True),
        "no-suffix-at-all.webp": (good, True),
        "empty.png": (b"", False),
        "text.jpg": (b"this is no picture", False),
        "half.png": (saved("RGB", "PNG")[:100], False),  # type: ignore[index]
        "half.jpg": (jpeg[: len(jpeg) // 2], False),
        "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", False),
        "page.svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", False),
        "archive.gif": (b"PK\x03\x04" + bytes(100), False),
        "bomb-100.png": (png_header(10_000, 10_000), False),
        "bomb-900.png": (png_header(30_000, 30_000), False),
        "bomb-real.png": (png_of("1", 10_001), False),
        "bomb.ico": (ico_around(png_of("1", 9000)), False),
        "bomb.bmp": (
            b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 10_000, 10_000, 1, 24, 0, 0, 0, 0, 0, 0),
            False,
        ),
        "bomb.ppm": (b"P6 100000 1000 255\n", False),
        "bomb.pcx": (b"\x0a\x05\x01\x08" + struct.pack("<HHHH", 0, 0, 9999, 9999) + bytes(116), False),
        "text-bomb.png": (exif_bomb, False),
        "largest.png": (png_of("L", 8000), True),
        "largest-clear.png": (png_of("RGBA", 8000), True),
        "largest-deep.png": (png_of("I;16", 8000), True),
        "\x1b]0;owned\x07.png": (good, True),
        "two\nlines.png": (good, True),
        "[bold]markup.png": (good, True),
        "not\udcffutf8.png": (good, True),
        "z-last.png": (good, True),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {name: answered for name, (_, answered) in files.items()}


@pytest.mark.slow
def test_one_bad_file_never_stops_the_others_and_memory_stays_bounded(tmp_path: Path, broke: Broke) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    answered = disguised(folder)
    (tmp_path / "good.safetensors").write_bytes(good_model())
    base = ["predict", "pictures", "--checkpoint=good.safetensors", "--device=cpu", "--threads=1"]
    lines = [[*base, f"--format={form}"] for form in ("json", "table", "jsonl", "csv")]
    answers = ran(lines, warm=[["inspect", "good.safetensors"]], cwd=tmp_path)
    predictions = json.loads(answers[0].out)["predictions"]
    assert {Path(p["path"]).name: p["error"] is None for p in predictions} == answered
    for answer in answers:
        assert answer.code == 3
        assert "Traceback" not in answer.err
        assert "\x1b" not in answer.err
        assert answer.memory < 2000 * 2**20
    assert "\x1b" not in answers[1].out  # the table is what a terminal shows
    assert len(answers[2].out.splitlines()) == len(answered)
    broke(13, FAULT, len(answered) * len(lines), OUTCOME)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_orientation_and_every_damaged_one_keeps_the_pixels(form: str, tmp_path: Path, broke: Broke) -> None:
    stored, path = Image.fromarray(picture()), tmp_path / "x"
    for value in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535):
        exif = Image.Exif()
        exif[images.EXIF_ORIENTATION] = value
        stored.save(path, form, exif=exif, **({"quality": 100} if form != "WEBP" else {"lossless": True}))
        turned = stored.transpose(images.UPRIGHT[value]) if value in images.UPRIGHT else stored
        assert np.abs(images.decode(path).pixels[MIDDLES].astype(int) - np.array(turned)[MIDDLES]).max() <= 3
    broke(13, FAULT, 11, OUTCOME)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_data_cost_no_picture(exif: bytes, tmp_path: Path) -> None:
    for form in ("PNG", "JPEG"):
        Image.fromarray(picture()).save(tmp_path / "x", form, exif=exif, quality=100)
        with images.quiet_decoders():
            pixels = images.decode(tmp_path / "x").pixels
        assert np.abs(pixels[MIDDLES].astype(int) - picture()[MIDDLES]).max() <= 3


def test_a_name_that_is_no_text_is_shown_and_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path / "no\udcff\x1b[31mcheckpoint")]) == 4
    assert "\x1b" not in capsys.readouterr().err
