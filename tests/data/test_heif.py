import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetcli.data import finding, heif, images
from resnetcli.errors import DataError
from tests.data.test_images import picture

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
AVIF_AS_MIF1 = b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(40)


def test_the_container_is_told_by_its_brands() -> None:
    assert heif.is_heif(HEIC)
    assert heif.is_heif(HEIC.replace(b"ftypheic", b"ftypmif1"))
    assert not heif.is_heif(AVIF_AS_MIF1)
    assert not heif.is_heif(b"\0\0\0\x18ftypisom\0\0\0\0isommp42")
    assert not heif.is_heif(b"")


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (HEIC, "HEIC and HEIF need a plug-in: pip install pillow-heif"),
        (b"\xff\x0a" + bytes(40), "JPEG XL is not read: convert it to PNG or JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL is not read: convert it to PNG or JPEG"),
    ],
)
def test_an_image_that_cannot_be_read_says_what_would_help(
    data: bytes, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "installed", lambda: False)
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError) as caught:
        images.decode(tmp_path / "x")
    assert caught.value.message == f"{tmp_path / 'x'}: cannot be decoded: {hint}"


def test_an_avif_file_without_a_decoder_names_the_pillow_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: name != "avif")
    assert heif.missing(AVIF_AS_MIF1) == "AVIF needs Pillow 11.3 or newer: pip install --upgrade pillow"


def test_with_the_plug_in_such_files_are_found_and_read(tmp_path: Path) -> None:
    plug_in = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    turned = Image.fromarray(picture(64, 64)).transpose(Image.Transpose.ROTATE_90)
    plug_in.from_pillow(turned).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    (tmp_path / "damaged.HEIC").write_bytes(HEIC)
    assert [Path(found.path).name for found in finding.find([str(tmp_path)], True, None)] == ["a.heic", "damaged.HEIC"]
    middles = np.ix_((8, 24), (8, 24))
    assert np.abs(images.decode(tmp_path / "a.heic").pixels[middles].astype(int) - picture()[middles]).max() < 12
    with pytest.raises(DataError, match=r"damaged\.HEIC: cannot be decoded: a damaged HEIC or HEIF file"):
        images.decode(tmp_path / "damaged.HEIC")


def test_the_plug_in_is_imported_for_such_a_file_only(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    (tmp_path / "a.heic").write_bytes(HEIC)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    code = """if True:
        import sys
        from resnetcli.data import images
        images.decode(sys.argv[1] + "/a.png")
        assert "pillow_heif" not in sys.modules
        try:
            images.decode(sys.argv[1] + "/a.heic")
        except Exception:
            pass
        assert "pillow_heif" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=dict(os.environ))
