import statistics

import pytest
import torch
import torch.nn.functional as F

from resnetcli.data.mixing import Mix, draw_mix, mix


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 8, 8, generator=generator).to(memory_format=torch.channels_last)
    return images, torch.tensor([3, 0, 4, 4, 1, 2])


def test_mixup_blends_each_image_and_label_with_its_partner(batch):
    images, labels = batch
    mixed, targets = mix(images.clone(), labels, Mix(shift=2, share=0.3), 5)
    for i in range(6):
        j = (i + 2) % 6
        torch.testing.assert_close(mixed[i], 0.7 * images[i] + 0.3 * images[j])
        expected = torch.zeros(5)
        expected[labels[i]] += 0.7
        expected[labels[j]] += 0.3
        torch.testing.assert_close(targets[i], expected)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_cutmix_pastes_the_box_of_the_partner_and_shares_the_label_by_area(batch):
    images, labels = batch
    mixed, targets = mix(images.clone(), labels, Mix(shift=1, share=15 / 64, box=(0, 2, 3, 7)), 5)
    for i in range(6):
        j = (i + 1) % 6
        for row in range(8):
            for column in range(8):
                source = j if row < 3 and 2 <= column < 7 else i
                assert torch.equal(mixed[i, :, row, column], images[source, :, row, column])
        expected = torch.zeros(5)
        expected[labels[i]] += 49 / 64
        expected[labels[j]] += 15 / 64
        torch.testing.assert_close(targets[i], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_targets_is_the_blend_of_the_losses_of_both_labels(batch, smoothing):
    images, labels = batch
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    _, targets = mix(images, labels, Mix(shift=4, share=0.2), 5)

    def loss(wanted):
        return F.cross_entropy(logits, wanted, label_smoothing=smoothing)

    torch.testing.assert_close(loss(targets), 0.8 * loss(labels) + 0.2 * loss(labels.roll(-4)))


WHERE = {"batch": 16, "size": 32, "seed": 0, "epoch": 0}


def draws(mixup, cutmix, count=4000, mixed=1.0, **changes):
    return [draw_mix(mixup, cutmix, mixed, **WHERE | changes, step=step) for step in range(count)]


def test_a_draw_depends_on_seed_epoch_and_step_alone():
    first = draws(0.4, 1.0, 50)
    assert first[::-1] == [draw_mix(0.4, 1.0, 1.0, **WHERE, step=step) for step in reversed(range(50))]
    assert first[0] != first[1]
    assert first != draws(0.4, 1.0, 50, seed=1)
    assert first != draws(0.4, 1.0, 50, epoch=1)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_of_mixup_follow_the_beta_distribution(alpha):
    drawn = draws(alpha, 0)
    assert all(m.box is None for m in drawn)
    shares = [m.share for m in drawn]
    assert statistics.fmean(shares) == pytest.approx(0.5, abs=0.03)
    assert statistics.pvariance(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
    assert {m.shift for m in drawn} == set(range(1, 16))


def test_boxes_of_cutmix_lie_inside_and_their_share_is_their_area():
    drawn = draws(0, 1.0)
    for m in drawn:
        top, left, bottom, right = m.box
        assert 0 <= top <= bottom <= 32
        assert 0 <= left <= right <= 32
        assert m.share == (bottom - top) * (right - left) / 1024
    whole = [m for m in drawn if m.box[0] > 0 and m.box[1] > 0 and m.box[2] < 32 and m.box[3] < 32]
    assert all(abs((m.box[2] - m.box[0]) - (m.box[3] - m.box[1])) <= 1 for m in whole)  # squares, but for rounding
    assert len(whole) > 500
    assert max(m.share for m in drawn) > 0.9


def test_where_both_are_given_each_has_every_second_step():
    assert sum(m.box is not None for m in draws(0.2, 1.0)) == pytest.approx(2000, abs=160)


def test_a_share_of_the_steps_mixes_and_the_others_leave_images_and_labels_alone():
    drawn = draws(0.2, 1.0, mixed=0.25)
    assert sum(m != Mix(0, 0.0) for m in drawn) == pytest.approx(1000, abs=140)
    assert all(m == Mix(0, 0.0) for m in draws(0.2, 1.0, 50, mixed=0.0))
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([2, 0, 1, 2])
    mixed, targets = mix(images.clone(), labels, Mix(0, 0.0), 3)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.eye(3)[labels])


def test_a_batch_of_one_image_is_mixed_with_itself():
    images, labels = torch.randn(1, 3, 8, 8), torch.tensor([2])
    how = draw_mix(1.0, 0, 1.0, batch=1, size=8, seed=0, epoch=0, step=0)
    mixed, targets = mix(images.clone(), labels, how, 5)
    torch.testing.assert_close(mixed, images)
    assert targets.argmax().item() == 2
