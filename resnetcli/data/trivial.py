"""TrivialAugment: one operation of one strength for each image, drawn evenly and with nothing to tune.

Müller & Hutter, "TrivialAugment: Tuning-free yet state-of-the-art data augmentation" (2021,
https://arxiv.org/abs/2103.10158), in its wide search space: 14 operations with 31 strengths each, as the batch ops of
this module on uint8 images on the device. The operations are those of PIL, which the paper uses, but that a blend is
rounded rather than cut off, and that what comes from outside the image is its mean colour rather than black.

It is for long runs: on every image it costs 3.3 points after three epochs of `fast` (examples/ablation.md), while the
recipes `balanced` and `best` are made of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from resnetcli.data.augment import generator_for

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
"""In an order in which those that are computed together lie together."""
GEOMETRIC = OPERATIONS[1:6]

STRONGEST = 30
"""Strengths are whole numbers -30..30; of operations without a direction the sign has no meaning."""
MAX_SHEAR = 0.99
MAX_SHIFT = 32
MAX_DEGREES = 135
MAX_BLEND = 0.99

LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in grey: ITU-R BT.601."""


def epoch_operations(count: int, share: float, seed: int, epoch: int) -> Tensor:
    """Operation (its number in `OPERATIONS`) and strength of each image in this epoch, int64[count,2]; with chance
    1 - `share` the operation is the identity."""
    generator = generator_for("trivial", seed, epoch)
    operation = torch.randint(0, len(OPERATIONS), (count,), generator=generator)
    strength = torch.randint(0, STRONGEST + 1, (count,), generator=generator)
    sign = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    operation[torch.rand(count, generator=generator) >= share] = OPERATIONS.index("identity")
    return torch.stack((operation, strength * sign), 1)


def grouped(order: Tensor, operations: Tensor, batch_size: int) -> tuple[Tensor, list[list[int]]]:
    """The same batches with the images of one operation side by side, and how many images of each operation every
    batch has.

    `order` is int64[N], whole batches only, `operations` int64[count]. So the images of an operation are a slice whose
    length Python knows: nothing is gathered, and nobody waits for the device.
    """
    batches = torch.arange(len(order)) // batch_size
    keys = batches * len(OPERATIONS) + operations[order]
    counts = torch.bincount(keys, minlength=len(order) // batch_size * len(OPERATIONS)).view(-1, len(OPERATIONS))
    return order[keys.argsort(stable=True)], counts.tolist()


class TrivialAugment:
    """Applies operations to batches of square images, in place. `fill` is uint8[3], the colour from outside."""

    def __init__(self, size: int, fill: Tensor) -> None:
        self.fill = fill
        self.sources = source_table(size).to(fill.device)

    def __call__(self, images: Tensor, strengths: Tensor, counts: Sequence[int]) -> None:
        """`images` is uint8[B,3,H,W], channels_last, sorted by operation; `strengths` int64[B]; `counts` says how many
        images each of `OPERATIONS` has."""
        pixels = images.permute(0, 2, 3, 1)
        ends = list(accumulate(counts))
        of = {name: slice(end - n, end) for name, end, n in zip(OPERATIONS, ends, counts, strict=True)}
        moved, blended = slice(ends[0], ends[5]), slice(ends[5], ends[9])
        self._move(pixels[moved], torch.cat([strengths[of[name]] + _row(name) for name in GEOMETRIC]))
        _blend(pixels[blended], strengths[blended], counts[6:10])
        posterize_(pixels[of["posterize"]], strengths[of["posterize"]].abs())
        solarize_(pixels[of["solarize"]], strengths[of["solarize"]].abs())
        autocontrast_(pixels[of["autocontrast"]])
        equalize_(pixels[of["equalize"]])

    def _move(self, pixels: Tensor, rows: Tensor) -> None:
        """All geometric operations as one gather; `rows` int64[N] of the table."""
        count, height, width, _ = pixels.shape
        source = self.sources[rows]
        first = torch.arange(count, device=pixels.device)[:, None] * (height * width)
        gathered = pixels.flatten(0, 2).index_select(0, (source.clamp(0) + first).flatten())
        outside = (source < 0).view(count, height, width, 1)
        torch.where(outside, self.fill, gathered.view_as(pixels), out=pixels)


def _row(operation: str) -> int:
    """Where strength 0 of a geometric operation stands in the table of sources."""
    return GEOMETRIC.index(operation) * (2 * STRONGEST + 1) + STRONGEST


def source_table(size: int) -> Tensor:
    """For each geometric operation and strength from which pixel each pixel comes, int64[305,size²]; -1: from outside.

    Nearest neighbour: the pixel in which the centre falls. Shears leave the upper left corner where it is, as in PIL;
    rotations turn about the centre. Few enough to be a table, the maps are the same on every device.
    """
    share = torch.arange(-STRONGEST, STRONGEST + 1, dtype=torch.float64)[:, None, None] / STRONGEST
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) + 0.5] * 2, indexing="ij")
    shift, angle, middle = (share * MAX_SHIFT).trunc(), share * math.radians(MAX_DEGREES), size / 2
    from_y = {
        "shear_y": y + share * MAX_SHEAR * x,
        "translate_y": y + shift,
        "rotate": middle + angle.cos() * (y - middle) + angle.sin() * (x - middle),
    }
    from_x = {
        "shear_x": x + share * MAX_SHEAR * y,
        "translate_x": x + shift,
        "rotate": middle + angle.cos() * (x - middle) - angle.sin() * (y - middle),
    }
    all_ = torch.zeros_like(share)  # spreads what does not move over the strengths
    # What lies on an edge but for rounding falls on one side of it on every machine.
    rows = torch.stack([(from_y.get(name, y) + all_ + 1e-6).floor().long() for name in GEOMETRIC])
    columns = torch.stack([(from_x.get(name, x) + all_ + 1e-6).floor().long() for name in GEOMETRIC])
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    return torch.where(inside, rows * size + columns, -1).view(-1, size * size)


def _blend(pixels: Tensor, strengths: Tensor, counts: Sequence[int]) -> None:
    """Brightness, colour, contrast and sharpness of uint8[N,H,W,3], in place: away from a plain image (black, grey,
    mean grey, smooth) or towards it, with strengths int64[N] as factors of 0.01 to 1.99."""
    exact = pixels.float()
    bright, color, contrast, sharp = torch.split(exact, list(counts))
    mean_grey = grey(contrast).mean((1, 2), keepdim=True)
    plain = [
        torch.zeros_like(bright),
        grey(color).expand_as(color),
        mean_grey.expand_as(contrast),
        smooth(sharp),
    ]
    factors = (1 + strengths * (MAX_BLEND / STRONGEST)).float().view(-1, 1, 1, 1)
    pixels.copy_(torch.lerp(torch.cat(plain), exact, factors).add_(0.5).clamp_(0, 255))


def grey(pixels: Tensor) -> Tensor:
    """float[N,H,W,3] to float[N,H,W,1]."""
    return pixels[..., :1] * LUMA[0] + pixels[..., 1:2] * LUMA[1] + pixels[..., 2:] * LUMA[2]


def smooth(pixels: Tensor) -> Tensor:
    """float[N,H,W,C] with each pixel but those at the border averaged with its neighbours, itself five times."""
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    boxes = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    result = pixels.clone()
    result[:, 1:-1, 1:-1].mul_(4).add_(boxes).div_(13)
    return result


def posterize_(pixels: Tensor, strengths: Tensor) -> None:
    """Keeps the upper 8 bits of uint8[N,H,W,C], at the strongest 2."""
    dropped = (6 * strengths + STRONGEST // 2) // STRONGEST
    pixels.bitwise_and_((255 << dropped & 255).to(torch.uint8).view(-1, 1, 1, 1))


def solarize_(pixels: Tensor, strengths: Tensor) -> None:
    """Inverts what is not darker than a threshold: 255, at the strongest 0."""
    threshold = (255 * (STRONGEST - strengths) + STRONGEST - 1) // STRONGEST  # rounded up: pixels are whole numbers
    inverted = (pixels >= threshold.to(torch.uint8).view(-1, 1, 1, 1)).to(torch.uint8) * 255
    pixels.bitwise_xor_(inverted)


def autocontrast_(pixels: Tensor) -> None:
    """Stretches each channel of each image of uint8[N,H,W,C] to 0..255; one of a single value stays."""
    low, high = pixels.amin((1, 2), keepdim=True).int(), pixels.amax((1, 2), keepdim=True).int()
    stretched = (pixels.int() - low) * 255 // (high - low).clamp(1)
    pixels.copy_(torch.where(high > low, stretched, pixels))


def equalize_(pixels: Tensor) -> None:
    """Gives each channel of each image of uint8[N,H,W,C] a histogram as flat as one table of values can make it; as
    PIL does, a channel whose values but the highest are fewer than 255 stays."""
    values = pixels.permute(0, 3, 1, 2).flatten(2).long()  # [N,C,H·W]
    histogram = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=pixels.device)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    highest = histogram.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - highest) // 255
    below = histogram.cumsum(2) - histogram
    table = ((below + step // 2) // step.clamp(1)).clamp(max=255)
    flat = torch.where(step > 0, table.gather(2, values), values)
    pixels.copy_(flat.view(len(pixels), pixels.shape[3], *pixels.shape[1:3]).permute(0, 2, 3, 1))
