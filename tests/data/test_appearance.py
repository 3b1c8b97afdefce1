"""What images look like, and which pictures do not look so."""

from __future__ import annotations

import math

import pytest
import torch

from resnetcli.data import mini
from resnetcli.data.appearance import learn_appearance, statistics, strangeness


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return mini.load().train.images


def test_the_statistics_of_a_small_picture_are_those_worked_out_by_hand() -> None:
    picture = torch.zeros(1, 3, 3, 3, dtype=torch.uint8)
    picture[0, 0, 1, 1] = 90  # one red dot
    red, green, blue, *logs = statistics(picture)[0].tolist()
    assert (red, green, blue) == (pytest.approx(10 / 255), 0, 0)
    contrast, across, down, laplacian = map(math.expm1, logs)
    assert contrast == pytest.approx(math.sqrt((90**2 / 9 - 10**2) / 3))
    assert across == down == pytest.approx(2 * 90 / 18)
    assert laplacian == pytest.approx(4 * 90 / 3)


def test_one_percent_of_the_images_are_beyond_the_threshold(images: torch.Tensor) -> None:
    known = learn_appearance(images, "train")
    far = strangeness(images, known)
    assert int((far > known.threshold).sum()) == len(images) // 100 == 20
    assert (known.images, known.split) == (len(images), "train")


def test_distances_have_the_mean_square_that_a_gaussian_of_seven_numbers_has(images: torch.Tensor) -> None:
    far = strangeness(images, learn_appearance(images, "train"))
    assert far.square().mean().item() == pytest.approx(7, rel=0.01)


def test_what_is_learned_from_half_of_the_images_holds_for_the_other_half(images: torch.Tensor) -> None:
    known = learn_appearance(images[::2], "val")
    share = (strangeness(images[1::2], known) > known.threshold).double().mean().item()
    assert share < 0.04


def test_pictures_of_nothing_are_strange(images: torch.Tensor) -> None:
    known = learn_appearance(images, "train")
    rows = torch.arange(32)
    board = ((rows[:, None] // 4 + rows // 4) % 2 * 255).to(torch.uint8).expand(1, 3, 32, 32)
    pictures = {
        "noise": torch.randint(0, 256, (50, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8),
        "flat": torch.randint(0, 256, (50, 3, 1, 1)).to(torch.uint8).expand(-1, -1, 32, 32),
        "black": torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        "white": torch.full((1, 3, 32, 32), 255, dtype=torch.uint8),
        "checkerboard": board,
        "ramp": (rows * 8).to(torch.uint8).expand(1, 3, 32, 32),
    }
    for name, kind in pictures.items():
        assert bool((strangeness(kind, known) > known.threshold).all()), name


def test_an_image_is_as_strange_alone_as_in_any_company(images: torch.Tensor) -> None:
    known = learn_appearance(images, "train")
    whole = strangeness(images, known)
    assert torch.equal(torch.cat([strangeness(part, known) for part in images[:40].split(7)]), whole[:40])
    scattered = images[:40].contiguous(memory_format=torch.channels_last)
    assert torch.equal(strangeness(scattered, known), whole[:40])


def test_of_too_few_images_nothing_is_learned(images: torch.Tensor) -> None:
    assert learn_appearance(images[:99], "val") is None
    assert learn_appearance(images[:100], "val") is not None


def test_images_that_are_all_alike_leave_everything_else_strange(images: torch.Tensor) -> None:
    known = learn_appearance(images[:1].expand(100, -1, -1, -1), "val")
    assert strangeness(images[:1], known).item() <= known.threshold
    assert strangeness(images[1:2], known).item() > known.threshold
