from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from resnetcli.config.train import TrainConfig
from resnetcli.data.augment import crop_and_flip, epoch_draws, epoch_order
from resnetcli.data.batches import EvalBatches, Normalizer, TrainBatches
from resnetcli.data.erasing import epoch_boxes, fill_boxes
from resnetcli.data.mixing import draw_mix, mix
from resnetcli.data.sizes import Shrink
from resnetcli.data.trivial import epoch_operations, grouped


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=generator).to(
        memory_format=torch.channels_last
    )


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 2, 4])
def test_a_batch_equals_padding_cutting_and_mirroring_each_image(images, mode, flip, padding):
    indices = torch.tensor([3, 3, 0, 49, 17])
    draws = epoch_draws(50, padding, seed=1, epoch=2)[indices]
    batch = crop_and_flip(images, indices, draws, padding_mode=mode, flip=flip)
    for out, index, (down, right, mirrored) in zip(batch, indices, draws.tolist(), strict=True):
        padded = F.pad(
            images[index].float()[None], (padding,) * 4, mode="reflect" if mode == "reflect" and padding else "constant"
        )[0]
        cut = padded[:, padding + down : padding + down + 32, padding + right : padding + right + 32]
        expected = cut.flip(2) if flip and mirrored else cut
        assert torch.equal(out.float(), expected)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_order_and_draws_depend_on_seed_and_epoch_alone():
    assert torch.equal(epoch_order(100, 5, 3), epoch_order(100, 5, 3))
    assert torch.equal(epoch_draws(100, 4, 5, 3), epoch_draws(100, 4, 5, 3))
    for other in ((6, 3), (5, 4)):
        assert not torch.equal(epoch_order(100, 5, 3), epoch_order(100, *other))
        assert not torch.equal(epoch_draws(100, 4, 5, 3), epoch_draws(100, 4, *other))
    assert sorted(epoch_order(100, 5, 3).tolist()) == list(range(100))


def test_draws_cover_every_shift_and_both_sides():
    draws = epoch_draws(5000, 2, 0, 0)
    assert {*draws[:, 0].tolist()} == {*draws[:, 1].tolist()} == {-2, -1, 0, 1, 2}
    assert {*draws[:, 2].tolist()} == {0, 1}


def test_alternating_flips_show_the_other_side_in_every_epoch_and_begin_by_chance():
    epochs = [epoch_draws(5000, 2, 7, epoch, alternating_flip=True) for epoch in range(4)]
    for before, after in pairwise(epochs):
        assert ((before[:, 2] + after[:, 2]) == 1).all()
    assert epochs[0][:, 2].double().mean().item() == pytest.approx(0.5, abs=0.04)
    assert not torch.equal(epochs[0][:, 2], epoch_draws(5000, 2, 8, 0, alternating_flip=True)[:, 2])
    assert torch.equal(epochs[3][:, :2], epoch_draws(5000, 2, 7, 3)[:, :2])


ALL = {
    "augment": "trivial",
    "alternating_flip": True,
    "erasing": 0.5,
    "cutout": 6,
    "mixup": 0.4,
    "cutmix": 1.0,
    "crop_padding": 3,
    "epochs": 4,
    "start_size": 24,
}
"""Every augmentation at once."""


def batches(images, **changes):
    config = TrainConfig(**{"batch_size": 12, **changes})
    normalize = Normalizer((0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    return TrainBatches(images, torch.arange(50), config, normalize, classes=50)


@pytest.mark.parametrize("settings", [{}, ALL], ids=["plain", "all"])
def test_an_epoch_from_its_middle_is_the_tail_of_the_epoch(images, settings):
    epoch = 1  # in all, the last one of small images
    whole, tail = list(batches(images, **settings)(epoch)), list(batches(images, **settings)(epoch, 3))
    assert len(whole) == 5
    for (x, y), (x_tail, y_tail) in zip(whole[3:], tail, strict=True):
        assert torch.equal(x, x_tail)
        assert torch.equal(y, y_tail)


@pytest.mark.parametrize(("epoch", "size"), [(1, 24), (3, 32)])
def test_augmentations_are_applied_one_after_the_other(images, epoch, size):
    source = batches(images, **ALL)
    config, indices = source.config, epoch_order(50, 0, epoch)[:50]
    operations = epoch_operations(50, 1.0, 0, epoch)
    indices, counts = grouped(indices, operations[:, 0], source.batch_size)
    for step, (got, targets) in enumerate(source(epoch)):
        chosen = indices[step * 10 : (step + 1) * 10]
        draws = epoch_draws(50, 3, 0, epoch, alternating_flip=True)[chosen]
        pixels = crop_and_flip(images, chosen, draws, padding_mode="reflect", flip=True)
        source.trivial(pixels, operations[chosen, 1], counts[step])
        expected = source.normalize(Shrink(32, 24, pixels.device)(pixels) if size == 24 else pixels)
        fill_boxes(expected, epoch_boxes(50, size, config, epoch)[chosen])
        assert (expected == 0).any()
        how = draw_mix(0.4, 1.0, 1.0, batch=10, size=size, seed=0, epoch=epoch, step=step)
        expected, shares = mix(expected, chosen, how, 50)
        assert got.shape == (10, 3, size, size)
        assert torch.equal(got, expected)
        assert torch.equal(targets, shares)
        assert got.is_contiguous(memory_format=torch.channels_last)


def test_without_mixing_targets_are_labels(images):
    settings = ALL | {"mixup": 0, "cutmix": 0}
    labels = [y for _, y in batches(images, **settings)(0)]
    assert torch.cat(labels).sort().values.tolist() == list(range(50))


def test_the_mean_colour_is_the_one_that_normalises_to_nothing():
    normalize = Normalizer((0.2, 0.4, 0.6), (0.25,) * 3, torch.device("cpu"))
    assert normalize(normalize.mean_color.view(1, 3, 1, 1)).abs().max() < 1e-6


def test_batches_of_an_epoch_have_one_size_and_repeat_no_image(images):
    source = batches(images, batch_size=16)
    labels = [y for _, y in source(0)]
    assert {len(y) for y in labels} == {12}  # 50 images in 4 steps
    assert len({*torch.cat(labels).tolist()}) == 48


def test_normalising_is_subtracting_the_mean_and_dividing_by_the_deviation(images):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    got = Normalizer(mean, std, torch.device("cpu"))(images)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-6)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_measuring_sees_every_image_once_in_order(images):
    normalize = Normalizer((0.0,) * 3, (1 / 255,) * 3, torch.device("cpu"))
    seen = torch.cat(list(EvalBatches(images, 16, normalize)))
    torch.testing.assert_close(seen, images.float())
