import pytest
import torch
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from resnetcli.config.train import TrainConfig
from resnetcli.data.erasing import cutout_boxes, epoch_boxes, erasing_boxes, fill_boxes


@settings(deadline=None, max_examples=50)
@hypothesis_given(
    boxes=st.lists(
        st.tuples(st.integers(-6, 9), st.integers(-6, 9), st.integers(0, 7), st.integers(0, 7)), min_size=6, max_size=6
    )
)
def test_boxes_are_filled_with_zeros_and_nothing_else_changes(boxes):
    images = torch.arange(1.0, 3 * 2 * 8 * 8 + 1).view(3, 2, 8, 8)
    corners = torch.tensor([(top, left, top + height, left + width) for top, left, height, width in boxes])
    expected = images.clone()
    for image, of_image in zip(expected, corners.view(3, 2, 4).tolist(), strict=True):
        for top, left, bottom, right in of_image:
            for row in range(8):
                for column in range(8):
                    if top <= row < bottom and left <= column < right:
                        image[:, row, column] = 0
    fill_boxes(images, corners.view(3, 2, 4))
    assert torch.equal(images, expected)


def test_erased_boxes_lie_inside_and_have_the_areas_aspects_and_the_frequency_of_the_paper():
    boxes = erasing_boxes(20_000, 32, 0.25, seed=1, epoch=2)
    top, left, bottom, right = boxes.unbind(1)
    height, width = bottom - top, right - left
    erased = height * width > 0
    assert erased.double().mean().item() == pytest.approx(0.25, abs=0.015)
    assert (boxes >= 0).all()
    assert (boxes <= 32).all()
    area = (height * width)[erased] / 32**2
    assert area.min() > 0.01  # sides are whole pixels
    assert area.max() < 0.42
    assert area.mean().item() == pytest.approx(0.21, abs=0.01)
    aspect = (height / width)[erased].double().log()
    assert aspect.abs().max() < torch.tensor(2 / 0.3).log()
    assert aspect.mean().abs() < 0.05  # as many high ones as wide ones
    assert aspect.abs().mean() > 0.3
    for first, end in ((top, bottom), (left, right)):
        middle = (first + end)[erased] / 2
        assert middle.mean().item() == pytest.approx(16, abs=0.3)
        assert first[erased].min() == 0
        assert end[erased].max() == 32


def test_a_cutout_is_a_square_around_any_pixel():
    boxes = cutout_boxes(20_000, 32, 5, seed=0, epoch=0)
    assert ((boxes[:, 2:] - boxes[:, :2]) == 5).all()
    centres = boxes[:, :2] + 2
    assert sorted({*centres[:, 0].tolist()}) == sorted({*centres[:, 1].tolist()}) == list(range(32))


@pytest.mark.parametrize(("size", "side"), [(32, 8), (28, 7), (24, 6), (20, 5), (17, 4)])
def test_boxes_of_smaller_images_are_smaller_too(size, side):
    erased, cut_out = epoch_boxes(20_000, size, TrainConfig(erasing=1.0, cutout=8), 0).unbind(1)
    assert ((cut_out[:, 2:] - cut_out[:, :2]) == side).all()
    assert (erased >= 0).all()
    assert erased.max() == size
    area = (erased[:, 2:] - erased[:, :2]).prod(1) / size**2
    assert area.mean().item() == pytest.approx(0.21, abs=0.01)


def test_boxes_depend_on_seed_and_epoch_alone_and_are_none_where_none_are_asked_for():
    config = TrainConfig(erasing=0.5, cutout=8, seed=3)
    boxes = epoch_boxes(100, 32, config, 4)
    assert boxes.shape == (100, 2, 4)
    assert torch.equal(boxes, epoch_boxes(100, 32, config, 4))
    assert not torch.equal(boxes, epoch_boxes(100, 32, config, 5))
    assert not torch.equal(boxes, epoch_boxes(100, 32, config.model_copy(update={"seed": 4}), 4))
    assert torch.equal(boxes[:, :1], epoch_boxes(100, 32, config.model_copy(update={"cutout": 0}), 4))
    assert epoch_boxes(100, 32, TrainConfig(), 4) is None
