from __future__ import annotations

import io
import os
import shlex
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from resnetcli.data import finding, heif, images
from resnetcli.errors import DataError


def picture(width: int = 32, height: int = 32) -> NDArray[np.uint8]:
    """Four different quarters, so that a turn or a mirror image shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 40)
    pixels[: height // 2, width // 2 :] = (30, 180, 60)
    pixels[height // 2 :, : width // 2] = (20, 50, 220)
    pixels[height // 2 :, width // 2 :] = (240, 230, 20)
    return pixels


def test_a_32x32_rgb_png_comes_through_bit_by_bit_without_notice(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    decoded = images.decode(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.notices == ()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "tga", "webp", "ico", "gif"])
def test_lossless_formats_give_the_same_pixels(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "ico": {"sizes": [(32, 32)]}}.get(suffix, {})
    Image.fromarray(picture()).save(path, **options)
    assert np.array_equal(images.decode(path).pixels, picture())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_every_exif_orientation_comes_out_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    stored = Image.fromarray(picture())
    if orientation > 1:
        stored = stored.transpose(images.UPRIGHT[undo])
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    stored.save(path, exif=exif, **options)
    decoded = images.decode(path)
    assert np.abs(decoded.pixels.astype(int) - picture()).max() < 12


def test_a_turned_photo_names_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    Image.fromarray(picture(100, 60)).save(tmp_path / "a.png", exif=exif)
    assert images.decode(tmp_path / "a.png").notices == (
        "turned upright (EXIF orientation 6)",
        "centre-cropped to square from 60×100, then resized to 32×32",
    )


@pytest.mark.parametrize(
    ("width", "height", "notice"),
    [
        (640, 480, "centre-cropped to square from 640×480, then resized to 32×32"),
        (64, 64, "resized from 64×64 to 32×32"),
        (16, 16, "resized from 16×16 to 32×32"),
        (1, 300, "centre-cropped to square from 1×300, then resized to 32×32"),
        (33, 32, "centre-cropped to square from 33×32, then resized to 32×32"),
    ],
)
def test_other_sizes_are_cropped_and_resized_with_a_notice(
    width: int, height: int, notice: str, tmp_path: Path
) -> None:
    Image.fromarray(picture(width, height)).save(tmp_path / "a.png")
    decoded = images.decode(tmp_path / "a.png")
    assert decoded.pixels.shape == (32, 32, 3)
    assert decoded.notices == (notice,)


def test_the_crop_is_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64] = picture()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(images.decode(tmp_path / "a.png").pixels, picture())


def test_another_size_can_be_asked_for(tmp_path: Path) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    assert np.array_equal(images.decode(tmp_path / "a.png", size=64).pixels, picture(64, 64))


def test_reducing_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert np.abs(images.decode(tmp_path / "a.png").pixels[2:-2, 2:-2].astype(int) - 127).max() <= 3


def test_a_large_jpeg_looks_like_the_small_picture(tmp_path: Path) -> None:
    Image.fromarray(picture(2048, 1536)).save(tmp_path / "a.jpg", quality=95)
    middle = images.decode(tmp_path / "a.jpg").pixels.astype(int)
    difference = np.abs(middle - picture())
    assert np.median(difference) <= 3
    assert "2048×1536" in images.decode(tmp_path / "a.jpg").notices[0]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I;16", 0, (0, 0, 0)),
    ],
)
def test_modes_of_png_become_rgb_on_white(
    mode: str, value: int | tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    Image.new(mode, (32, 32), value).save(tmp_path / "a.png")
    pixels = images.decode(tmp_path / "a.png").pixels.astype(int)
    assert np.abs(pixels - expected).max() == 0


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "I", "F", "L", "1"])
def test_modes_of_tiff_become_rgb(mode: str, tmp_path: Path) -> None:
    source = Image.fromarray(picture())
    grey = picture().astype(float).mean(axis=2)
    expected: NDArray[np.floating] = picture().astype(float)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.applyTransform(source, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert stored is not None
    elif mode in ("I", "F"):
        stored = Image.fromarray((grey * 257).astype(np.int32) if mode == "I" else (grey / 255).astype(np.float32))
        expected = np.repeat(grey[..., None], 3, axis=2)
    else:
        stored = source.convert(mode)
        expected = np.array(stored.convert("RGB")).astype(float)
    assert stored.mode == mode
    stored.save(tmp_path / "a.tif")
    decoded = images.decode(tmp_path / "a.tif")
    assert np.abs(decoded.pixels - expected).max() <= (8 if mode == "LAB" else 4)  # LAB has whole steps of a and b
    assert len(decoded.notices) == 1


def test_a_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.median(np.abs(images.decode(tmp_path / "a.jpg").pixels.astype(int) - picture())) <= 4


def test_a_palette_keeps_its_colours_and_its_transparency_is_white(tmp_path: Path) -> None:
    stored = Image.new("P", (32, 32), 0)
    stored.putpalette([10, 20, 30, 200, 100, 50])
    stored.paste(1, (0, 0, 16, 32))
    stored.save(tmp_path / "plain.png")
    stored.save(tmp_path / "clear.png", transparency=0)
    stored.save(tmp_path / "bytes.png", transparency=bytes((0, 255)))
    plain = images.decode(tmp_path / "plain.png")
    assert plain.pixels[0, 0].tolist() == [200, 100, 50]
    assert plain.pixels[0, 31].tolist() == [10, 20, 30]
    assert plain.notices == ()
    for name in ("clear.png", "bytes.png"):
        decoded = images.decode(tmp_path / name)
        assert decoded.pixels[0, 0].tolist() == [200, 100, 50]
        assert decoded.pixels[0, 31].tolist() == [255, 255, 255]
        assert decoded.notices == ("transparency was put on white",)


def test_a_transparent_colour_of_an_rgb_png_is_white(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert images.decode(tmp_path / "a.png").pixels[0, 0].tolist() == [255, 255, 255]


def test_16_bit_pgm_is_scaled_like_16_bit_png(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 32 32 65535\n" + struct.pack(">H", 257 * 77) * 1024)
    assert images.decode(tmp_path / "a.pgm").pixels[0, 0].tolist() == [77, 77, 77]


def test_other_ranges_are_stretched_with_a_notice_and_nan_is_an_error(tmp_path: Path) -> None:
    values = np.linspace(-5, 1000, 1024, dtype=np.float32).reshape(32, 32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    decoded = images.decode(tmp_path / "a.tif")
    assert decoded.pixels[0, 0].tolist() == [0, 0, 0]
    assert decoded.pixels[31, 31].tolist() == [255, 255, 255]
    assert decoded.notices == ("grey from -5 to 1000 stretched to 8 bits",)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match="not finite"):
        images.decode(tmp_path / "b.tif")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame_is_taken_with_a_notice(suffix: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (32, 32), (255, 0, 0)), Image.new("RGB", (32, 32), (0, 0, 255))
    options = {"webp": {"lossless": True}}.get(suffix, {})
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **options)
    decoded = images.decode(tmp_path / f"a.{suffix}")
    assert decoded.pixels[9, 9].tolist() == [255, 0, 0]
    assert decoded.notices == ("animated or of several pages: the first was taken",)


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [8_001, 10_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with pytest.raises(DataError, match="more than 64 megapixels") as caught:
        images.decode(tmp_path / "bomb.png")
    assert str(tmp_path / "bomb.png") in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", b"", "not an image in a known format"),
        ("a.png", b"hello", "not an image in a known format"),
        ("a.png", png_header(32, 32), "cannot be decoded"),
        (
            "a.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n",
            "not an image in a known format",
        ),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in a known format"),
    ],
)
def test_what_is_no_picture_is_one_line_that_names_it(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        images.decode(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message


def test_missing_files_folders_and_pipes_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="no such file"):
        images.decode(tmp_path / "none.png")
    with pytest.raises(DataError, match="not a regular file"):
        images.decode(tmp_path)
    with pytest.raises(DataError, match="not a regular file"):
        images.decode(tmp_path / "pipe.png")


def encoded(suffix: str) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    options = {} if suffix == "GIF" else {"exif": exif}
    Image.fromarray(picture(48, 40)).save(file, suffix, **options)
    return file.getvalue()


ENCODED = {suffix: encoded(suffix) for suffix in ("PNG", "JPEG", "GIF", "WEBP", "TIFF")}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(ENCODED)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
)
def test_a_damaged_file_decodes_or_is_a_data_error(
    kind: str, cut: float, flips: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(ENCODED[kind][: max(1, int(cut * len(ENCODED[kind])))])
    for place, value in flips:
        data[int(place * len(data))] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    shape, message = (32, 32, 3), ""
    try:
        shape = images.decode(path).pixels.shape
    except DataError as error:
        message = error.message
    assert shape == (32, 32, 3)
    assert "\n" not in message


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    level=st.integers(0, 255),
)
def test_one_colour_stays_that_colour_at_any_size(
    mode: str, width: int, height: int, level: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = {
        "1": level % 2,
        "LA": (level, 255),
        "RGB": (level,) * 3,
        "RGBA": (level,) * 3 + (255,),
        "I;16": 257 * level,
    }
    image = Image.new(mode, (width, height), 0 if mode == "P" else values.get(mode, level))
    if mode == "P":
        image.putpalette([level] * 3)
    path = tmp_path_factory.getbasetemp() / "plain.png"
    image.save(path)
    expected = 255 * (level % 2) if mode == "1" else level
    assert (images.decode(path).pixels == expected).all()


def found(*paths: str, recursive: bool = True, stdin: io.BytesIO | None = None) -> list[str]:
    """The pictures by name, errors as "!name"."""
    return [("!" if entry.error else "") + Path(entry.path).name for entry in finding.find(paths, recursive, stdin)]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", "._a.jpg", "sub/c.webp", "sub/.hidden/d.png", "x[1].png"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gives_its_pictures_sorted_and_leaves_out_hidden_ones(album: Path) -> None:
    assert found(str(album)) == ["a.JPG", "b.png", "x[1].png", "c.webp"]
    assert found(str(album), recursive=False) == ["a.JPG", "b.png", "x[1].png"]


def test_globs_are_expanded_and_a_name_with_brackets_is_itself(album: Path) -> None:
    assert found(f"{album}/*.png") == ["b.png", "x[1].png"]
    assert found(f"{album}/**") == ["a.JPG", "b.png", "c.webp", "x[1].png"]
    assert found(f"{album}/*.txt") == ["notes.txt"]
    assert found(f"{album}/x[1].png") == ["x[1].png"]


@pytest.fixture
def no_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pillow-heif is not installed."""
    monkeypatch.setattr(heif, "installed", lambda: False)


@pytest.mark.usefixtures("no_heif")
def test_linked_folders_and_images_of_other_kinds_are_left_out_and_counted(album: Path) -> None:
    (album / "linked").symlink_to(album / "sub")
    (album / ".hidden-link").symlink_to(album / "sub")
    (album / "sub" / "back").symlink_to(album)
    for name in ("p.HEIC", "sub/q.heic", "r.svg", "._s.heic"):
        (album / name).touch()
    left_out = finding.LeftOut()
    names = [Path(entry.path).name for entry in finding.find([str(album)], True, None, left_out)]
    assert names == ["a.JPG", "b.png", "x[1].png", "c.webp"]
    assert left_out.suffixes == {".heic": 2, ".svg": 1}
    assert left_out.linked_folders == [str(album / "linked"), str(album / "sub" / "back")]
    kinds, folders = left_out.sentences()
    assert "2 .heic, 1 .svg" in kinds
    assert "pip install pillow-heif" in kinds
    assert folders.startswith(f"not entered: 2 linked folders {album / 'linked'}, ")


@pytest.mark.usefixtures("no_heif")
def test_a_folder_of_nothing_but_what_is_left_out_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    (entry,) = finding.find([str(tmp_path)], True, None)
    assert entry.error is not None
    assert "1 .heic" in entry.error
    assert f"linked folder {tmp_path / 'link'}" in entry.error


@pytest.mark.usefixtures("no_heif")
def test_a_glob_without_a_suffix_counts_what_it_leaves_out_and_one_with_it_takes_it(tmp_path: Path) -> None:
    for name in ("a.heic", "b.png"):
        (tmp_path / name).touch()
    left_out = finding.LeftOut()
    assert [Path(e.path).name for e in finding.find([f"{tmp_path}/*"], True, None, left_out)] == ["b.png"]
    assert left_out.suffixes == {".heic": 1}
    assert found(f"{tmp_path}/*.heic") == ["a.heic"]


def test_a_named_file_is_tried_whatever_it_is_called(album: Path) -> None:
    assert found(str(album / "notes.txt")) == ["notes.txt"]


def test_what_matches_nothing_is_an_entry_and_does_not_stop_the_others(album: Path) -> None:
    paths = (str(album / "none.png"), str(album / "empty"), f"{album}/*.gif", str(album / "b.png"))
    assert found(*paths) == ["!none.png", "!empty", "!*.gif", "b.png"]
    errors = [entry.error for entry in finding.find(paths, True, None)]
    assert errors[0] == f"{album / 'none.png'}: no such file"
    assert errors[1] is not None
    assert "holds no picture" in errors[1]
    assert errors[2] == f"{album}/*.gif: matches no picture"


def test_a_dash_reads_one_path_a_line(album: Path) -> None:
    lines = io.BytesIO(f"{album / 'b.png'}\r\n\n{album / 'none.png'}\n{album / 'sub'}\n".encode())
    assert found("-", stdin=lines) == ["b.png", "!none.png", "c.webp"]
    assert found("-", stdin=None) == ["!-"]


@pytest.mark.parametrize("url", ["https://example.org/a.png", "http://example.org/a.png?w=1&h=[2]", "s3://b/a.png"])
def test_a_url_is_an_entry_that_shows_the_command_that_fetches_it(url: str) -> None:
    for entries in (finding.find([url], True, None), finding.find(["-"], True, io.BytesIO(f"{url}\n".encode()))):
        (entry,) = entries
        assert entry.path == url
        command = f"curl -fsSL {shlex.quote(url)} | resnetcli predict -"
        assert entry.error == f"{url}: URLs are not fetched; do `{command}`"
