"""Pictures that ask for more memory or work than their bytes or pixels tell: a megabyte that claims gigabytes."""

from __future__ import annotations

import io
import re
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetcli.data import claims, colours, images
from resnetcli.data.colours import to_rgb
from resnetcli.errors import DataError
from tests.data.test_images import png_header
from tests.faults.test_hostile_images import ico_around, png_of, saved


def tiff(width: int, height: int, tags: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF; `tags`: number to (type, count, value or offset), beside width and height."""
    rows = sorted({256: (4, 1, width), 257: (4, 1, height), 262: (3, 1, 2), **tags}.items())
    directory = b"".join(struct.pack("<HHII", tag, *row) for tag, row in rows)
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + directory + bytes(4) + data


def tile_claim(side: int, tile: int, compression: int = 8) -> bytes:
    """An RGBA picture in one deflated tile, of which all is zero."""
    start = 8 + 2 + 12 * 11 + 4
    data = zlib.compress(bytes(4 * min(tile, 512) ** 2), 9)
    return tiff(
        side,
        side,
        {
            258: (3, 1, 8),
            259: (3, 1, compression),
            277: (3, 1, 4),
            322: (4, 1, tile),
            323: (4, 1, tile),
            324: (4, 1, start),
            325: (4, 1, len(data)),
            338: (3, 1, 2),
        },
        data,
    )


def with_scans(scans: int) -> bytes:
    """A progressive JPEG of one grey value, whose last scan comes so often."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 90).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start, there = data.rindex(b"\xff\xda"), data.count(b"\xff\xda")
    return data[:start] + data[start:-2] * (scans - there + 1) + b"\xff\xd9"


def j2k(
    components: int = 3, side: int = 64, tile: int = 64, bits: int = 8, block: int = 4, precinct: int = 15
) -> bytes:
    """The headers of a JPEG 2000 code stream."""
    size = (
        struct.pack(">H8IH", 0, side, side, 0, 0, tile, tile, 0, 0, components) + bytes((bits - 1, 1, 1)) * components
    )
    coding = bytes((1, 0, 0, 1, 0, 0, block, block, 0, 0, precinct * 17))
    segments = [struct.pack(">HH", kind, len(body) + 2) + body for kind, body in ((0xFF51, size), (0xFF52, coding))]
    return b"\xff\x4f" + b"".join(segments) + b"\xff\xd9"


def webp_header(side: int) -> bytes:
    return (
        b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + (side - 1).to_bytes(3, "little") * 2
    )


def claims_too_much() -> dict[str, tuple[bytes, str]]:
    """Files by name that ask for more memory or work than their bytes or pixels tell, and why each is refused."""
    jpeg, gif = saved("RGB", "JPEG"), b"GIF89a" + struct.pack("<HHBBB", 32, 32, 0, 0, 0)
    assert jpeg is not None
    comments = b"\xff\xfe\0\x03x"
    exif = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
    qoi = b"qoif" + struct.pack(">IIBB", 4000, 4000, 3, 0)
    rle = b"BM" + struct.pack("<IIIIiiHHIIIIII", 1078, 0, 1078, 40, 32, 32, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    png = png_of("L", 32)
    twice = bytearray(tile_claim(32, 64))
    twice[10 + 12 : 10 + 14] = struct.pack("<H", 256)
    deflated = {258: (3, 1, 8), 259: (3, 1, 8)}
    narrow = tiff(1, 60_000, deflated | {262: (3, 1, 1), 322: (4, 1, 4096), 323: (4, 1, 16), 324: (4, 1, 8)})
    return {
        "tile.tif": (tile_claim(32, 16384), "cover 268 megapixels for 32×32"),
        "tiles.tif": (tile_claim(8000, 1) + bytes(64), "64,000,000 strips or tiles"),
        "narrow.tif": (narrow, "cover 246 megapixels for 1×60000"),
        "values.tif": (tiff(32, 32, {258: (3, 1, 8), 273: (4, 2**24, 8)}), "has 16,777,216 values"),
        "strip.tif": (
            tiff(
                32,
                32,
                {258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 6), 277: (3, 1, 3), 278: (4, 1, 2**24), 273: (4, 1, 8)},
            ),
            "would take 2.0 GiB",
        ),
        "twice.tif": (bytes(twice), "tag 256 is there twice"),
        "scans.jpg": (with_scans(101), "more than 100 scans"),
        "scans-after-junk.jpg": (with_scans(101).replace(b"\xff\xc2", b"x\xff\xff\xc2", 1), "more than 100 scans"),
        "segments.jpg": (jpeg[:2] + 5000 * comments + jpeg[2:], "more than 4,096 segments"),
        "exif.jpg": (jpeg[:2] + 20 * exif + jpeg[2:], "more than 1 MiB of EXIF"),
        "chunks.png": (png[:33] + 270_000 * chunk + png[33:], "more than 262,144 chunks"),
        "blocks.gif": (gif + b"!\xfe" + 1_100_000 * b"\x01x" + b"\0;", "more than 1,000,000 blocks"),
        "header.ppm": (b"P6 #" + bytes(100_000) + b"\n32 32 255\n" + bytes(3072), "header is longer than 64 KiB"),
        "slow.qoi": (qoi + 7_000_000 * b"\x7f", "whose decoder is slow"),
        "slow.ppm": (b"P6 3000 3000 100\n", "whose decoder is slow"),
        "plain.ppm": (b"P3 3000 3000 255\n", "whose decoder is slow"),
        "nothing.bmp": (rle + 6_500_000 * b"\xff\0", "whose decoder is slow"),
        "inside.ico": (ico_around(png_header(30_000, 30_000)), "30000×30000 is more than 64 megapixels"),
        "canvas.webp": (webp_header(16_000), "16000×16000 is more than 64 megapixels"),
        "components.j2k": (j2k(components=16_384), "16,384 components"),
        "tiles.j2k": (j2k(side=8000, tile=32), "62,500 tiles"),
        "deep.j2k": (j2k(bits=32), "more than 16 bits"),
        "blocks.j2k": (j2k(block=0), "code-blocks smaller than 16 pixels"),
        "precincts.j2k": (j2k(precinct=0), "precincts smaller than 32 pixels"),
    }


CLAIMS = claims_too_much()


@pytest.mark.parametrize("name", CLAIMS)
def test_what_claims_too_much_memory_or_work_is_refused_by_its_headers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, reason = CLAIMS[name]
    (tmp_path / name).write_bytes(data)

    def none_may_decode(*_: object) -> None:
        raise AssertionError("a decoder was started")

    monkeypatch.setattr(Image, "_getdecoder", none_may_decode)
    with images.quiet_decoders(), pytest.raises(DataError, match=re.escape(reason)):
        images.decode(tmp_path / name)


@pytest.mark.parametrize("name", ["a.webp", "a.avif", "a.heic"])
def test_a_format_that_is_read_whole_has_a_bound_on_its_file(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:  # a sparse file
        file.write(webp_header(64) if name == "a.webp" else b"\0\0\0\x20ftyp" + name[2:].encode() + bytes(20))
        file.truncate(2**40)
    with pytest.raises(DataError, match="read up to 128 MiB"):
        images.decode(tmp_path / name)


def test_usual_tiles_scans_and_headers_are_read(tmp_path: Path) -> None:
    for name, data in {
        "a.tif": tile_claim(32, 512),
        "b.jpg": with_scans(99),
        "c.ppm": b"P6 # made by hand\n32 32\n# more\n255\n" + bytes(3072),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert images.decode(tmp_path / name).pixels.shape == (32, 32, 3)


def test_no_decoder_writes_to_stderr_by_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff prints its errors past Python, and what no handler takes of Pillow's log Python prints itself."""
    broken = bytearray(tile_claim(32, 64))
    broken[-40:] = bytes(40)
    (tmp_path / "a.tif").write_bytes(broken)
    (tmp_path / "b.tif").write_bytes(tiff(32, 32, {258: (3, 1, 8), 277: (3, 1, 200), 273: (4, 1, 8)}))
    with images.quiet_decoders():
        for name in ("a.tif", "b.tif"):
            with pytest.raises(DataError):
                images.decode(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_pictures_side_by_side_stay_within_a_budget_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BUDGET_BYTES", 100)
    inside: list[int] = []
    most = 0

    def one(need: int) -> None:
        nonlocal most
        with claims.memory(need):
            inside.append(need)
            most = max(most, sum(inside) if len(inside) > 1 else 0)
            time.sleep(0.001)
            inside.remove(need)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [30, 60, 500, 20, 90, 10, 700, 40] * 4))
    assert inside == []
    assert 0 < most <= 100


def test_exif_data_of_megabytes_are_not_read(tmp_path: Path) -> None:
    values = 2**20
    exif = b"MM\0*" + struct.pack(">IHHHII", 8, 1, 0x0112, 3, values, 26) + bytes(4) + 2 * values * b"\0"
    chunk = b"eXIf" + exif
    png = png_of("RGB", 32)
    whole = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(png[:33] + whole + png[33:])
    assert images.decode(tmp_path / "a.png").notices == ("its EXIF data are damaged and were ignored",)


def test_large_pictures_are_converted_in_bands_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rgba = Image.fromarray(draw.integers(0, 256, (50, 40, 4), np.uint8))
    deep = Image.fromarray(draw.integers(0, 65536, (50, 40)).astype(np.uint16))
    floats = Image.fromarray(np.asarray(deep) / np.float32(9))
    for image in (rgba, rgba.convert("LA"), rgba.convert("RGBa"), deep, floats):
        whole, notice = to_rgb(image)
        with monkeypatch.context() as patch:
            patch.setattr(colours, "BAND_PIXELS", 3 * 40)
            bands = to_rgb(image)
        assert bands[1] == notice
        assert bands[0].tobytes() == whole.tobytes()
