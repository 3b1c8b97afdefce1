"""Whatever mode a picture has, in RGB on white."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

BAND_PIXELS = 2**20
"""Pictures are converted by bands of about so many pixels; all at once, the largest took up to three copies more."""


def to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """The same pixels in RGB, and what was lost or assumed. Raises ValueError of values that are not finite."""
    mode = image.mode
    if mode == "RGB" and not image.has_transparency_data:
        return image, ""
    if mode.startswith(("I", "F")):
        return _from_deep(image)
    if image.has_transparency_data or mode in ("La", "RGBa"):
        return _on_white(image)
    if mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(image, to_srgb)
        assert converted is not None
        return converted, "converted from LAB"
    names = {"1": "black and white", "L": "grey"}
    return image.convert("RGB"), "" if mode == "P" else f"converted from {names.get(mode, mode)}"


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The first row of each band, and the band."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> tuple[Image.Image, str]:
    result, opaque = Image.new("RGB", image.size), True
    for top, straight in _bands(image):
        for to in ({"La": "LA", "RGBa": "RGBA"}.get(straight.mode, straight.mode), "RGBA"):
            straight = straight if straight.mode == to else straight.convert(to)
        opaque = opaque and straight.getchannel("A").getextrema() == (255, 255)
        white = Image.new("RGBA", straight.size, "white")
        result.paste(Image.alpha_composite(white, straight).convert("RGB"), (0, top))
    return result, "" if opaque else "transparency was put on white"


def _from_deep(image: Image.Image) -> tuple[Image.Image, str]:
    """Grey of 16 or 32 bits or of floats to 8 bits; Pillow's own conversion clips it to white."""
    ends = np.array([(values.min(), values.max()) for values in (np.asarray(band) for _, band in _bands(image))])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not np.isfinite((low, high)).all():  # one NaN makes both NaN
        raise ValueError("it has values that are not finite")
    if image.mode.startswith("I") and low >= 0 and high <= 65535:
        low, high, notice = 0.0, 65535.0, "16-bit grey reduced to 8 bits"
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high, notice = 0.0, 1.0, "float grey, 0 to 1, reduced to 8 bits"
    elif image.mode == "F" and low >= 0 and high <= 255:
        low, high, notice = 0.0, 255.0, "float grey, 0 to 255, reduced to 8 bits"
    else:
        notice = f"grey from {low:g} to {high:g} stretched to 8 bits"
    result = Image.new("RGB", image.size)
    for top, band in _bands(image):
        values = np.asarray(band).astype(np.float64)
        grey = np.rint((values - low) * (255.0 / max(high - low, 1e-300))).astype(np.uint8)
        result.paste(Image.fromarray(grey).convert("RGB"), (0, top))
    return result, notice
