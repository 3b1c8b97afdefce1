"""TrivialAugment's batch ops beside PIL, one image at a time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from resnetcli.data.trivial import OPERATIONS, TrivialAugment, epoch_operations, grouped

FILL = (10, 200, 30)
ROUNDED = ("brightness", "color", "contrast", "sharpness", "autocontrast")
STRENGTHS = (-30, -17, -10, -1, 0, 1, 5, 20, 29, 30)


@pytest.fixture
def images():
    """Noise, a smooth ramp, a plain image, one of few grey levels and a dark one."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator)
    ramp = (torch.arange(32)[:, None] * 5 + torch.arange(32) * 2 + torch.tensor([0, 10, 20])[:, None, None]).byte()
    plain = torch.full((3, 32, 32), 77, dtype=torch.uint8)
    return torch.stack((noise, ramp, plain, noise // 64 * 64, noise // 8)).to(memory_format=torch.channels_last)


def applied(images, name, strength):
    """The results of one operation for all images."""
    counts = [len(images) if operation == name else 0 for operation in OPERATIONS]
    batch = images.clone(memory_format=torch.channels_last)
    strengths = torch.full((len(images),), strength)
    TrivialAugment(32, torch.tensor(FILL, dtype=torch.uint8))(batch, strengths, counts)
    return batch


def of_pil(image, name, strength):
    """What PIL makes of uint8[3,32,32]."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    share, steps = strength / 30, abs(strength)
    degrees = 135 * share
    match name:
        case "identity":
            done = picture
        case "shear_x":
            done = affine(picture, 1, 0.99 * share, 0, 0, 1, 0)
        case "shear_y":
            done = affine(picture, 1, 0, 0, 0.99 * share, 1, 0)
        case "translate_x":
            done = affine(picture, 1, 0, int(32 * share), 0, 1, 0)
        case "translate_y":
            done = affine(picture, 1, 0, 0, 0, 1, int(32 * share))
        case "rotate":
            done = picture.rotate(degrees, Image.Resampling.NEAREST, fillcolor=FILL)
        case "posterize":
            done = ImageOps.posterize(picture, 8 - round(steps / 5))
        case "solarize":
            done = ImageOps.solarize(picture, 255 - 255 * steps / 30)
        case "autocontrast":
            done = ImageOps.autocontrast(picture)
        case "equalize":
            done = ImageOps.equalize(picture)
        case _:
            done = getattr(ImageEnhance, name.capitalize())(picture).enhance(1 + 0.99 * share)
    return torch.from_numpy(np.array(done)).permute(2, 0, 1)


def affine(picture, *matrix):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=FILL)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_that_of_pil(images, name, strength):
    for got, image in zip(applied(images, name, strength), images, strict=True):
        expected = of_pil(image, name, strength)
        if name == "rotate":  # at 135 degrees centres fall on edges, and rounding decides
            assert (got != expected).any(0).sum() <= (22 if abs(strength) == 30 else 1)
        elif name in ROUNDED:  # PIL rounds in between and cuts off at the end
            assert (got.int() - expected.int()).abs().max() <= 1
        else:
            assert torch.equal(got, expected)


@settings(deadline=None, max_examples=30)
@hypothesis_given(seed=st.integers(0, 2**32), batch_size=st.integers(1, 20), count=st.integers(1, 3))
def test_a_grouped_batch_gives_each_image_what_it_gets_alone(seed, batch_size, count):
    generator = torch.Generator().manual_seed(seed)
    total = batch_size * count
    images = torch.randint(0, 256, (total, 32, 32, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    drawn = epoch_operations(total, 1.0, seed, epoch=0)
    order, counts = grouped(torch.randperm(total, generator=generator), drawn[:, 0], batch_size)
    assert sorted(order.tolist()) == list(range(total))
    augment = TrivialAugment(32, torch.tensor(FILL, dtype=torch.uint8))
    for chosen, of_each in zip(order.split(batch_size), counts, strict=True):
        batch = images[chosen].contiguous(memory_format=torch.channels_last)
        augment(batch, drawn[chosen, 1], of_each)
        for got, index in zip(batch, chosen.tolist(), strict=True):
            operation, strength = drawn[index].tolist()
            assert torch.equal(got, applied(images[index : index + 1], OPERATIONS[operation], strength)[0])


def test_grouping_leaves_each_image_in_its_batch():
    operations = epoch_operations(48, 1.0, 0, 0)[:, 0]
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    result, counts = grouped(order, operations, 12)
    for before, after, of_each in zip(order.split(12), result.split(12), counts, strict=True):
        assert sorted(before.tolist()) == sorted(after.tolist())
        assert operations[after].tolist() == [i for i, n in enumerate(of_each) for _ in range(n)]


def test_operations_are_drawn_evenly_and_depend_on_seed_and_epoch_alone():
    drawn = epoch_operations(42_000, 1.0, seed=3, epoch=1)
    assert torch.equal(drawn, epoch_operations(42_000, 1.0, seed=3, epoch=1))
    assert not torch.equal(drawn, epoch_operations(42_000, 1.0, seed=3, epoch=2))
    assert not torch.equal(drawn, epoch_operations(42_000, 1.0, seed=4, epoch=1))
    of_each = torch.bincount(drawn[:, 0], minlength=len(OPERATIONS))
    assert (of_each - 3000).abs().max() < 5 * math.sqrt(3000)
    strengths = torch.bincount(drawn[:, 1] + 30)
    assert len(strengths) == 61
    assert (strengths[torch.arange(61) != 30] - 42_000 / 62).abs().max() < 5 * math.sqrt(42_000 / 62)
    assert abs(strengths[30].item() - 42_000 / 31) < 5 * math.sqrt(42_000 / 31)


def test_a_share_of_the_images_gets_an_operation():
    drawn = epoch_operations(42_000, 0.5, seed=3, epoch=1)
    of_each = torch.bincount(drawn[:, 0], minlength=len(OPERATIONS))
    assert (of_each[1:] - 1500).abs().max() < 5 * math.sqrt(1500)
    assert epoch_operations(100, 0.0, seed=3, epoch=1)[:, 0].count_nonzero() == 0
