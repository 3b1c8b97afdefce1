import pytest
import torch

from resnetcli.engine.evaluate import collect_logits, evaluating, logits_of, loss_and_top1, mean_logits
from resnetcli.models.resnet import ResNet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNet(branch_scale=0.3).to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def images():
    return torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("tta", "size"), [("none", 1), ("none", 3), ("none", 15), ("flip", 3), ("shift", 1)])
def test_an_answer_does_not_depend_on_the_batch_that_an_image_is_in(threads, network, images, size, tta):
    whole = collect_logits(network, [images[:32]], tta=tta)
    parts = collect_logits(network, images[: 2 * size].split(size), tta=tta)
    assert torch.equal(whole[: 2 * size], parts)


def test_an_answer_does_not_depend_on_the_place_in_the_batch(threads, network, images):
    order = torch.randperm(64)
    shuffled = images[order].contiguous(memory_format=torch.channels_last)
    assert torch.equal(collect_logits(network, images.split(32))[order], collect_logits(network, shuffled.split(32)))


def test_measuring_changes_neither_mode_nor_statistics(network, images):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    collect_logits(network, images.split(32))
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_flipping_gives_an_image_and_its_mirror_image_the_same_answer(network, images):
    with evaluating(network):
        a, b = (logits_of(network, x, tta="flip") for x in (images[:8], images[:8].flip(3)))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("tta", "weights"),
    [
        ("none", {(0, False): 1.0}),
        ("flip", {(0, False): 0.5, (0, True): 0.5}),
        ("shift", {(move, flip): 0.25 if move == 0 else 0.125 for move in (-1, 0, 1) for flip in (False, True)}),
    ],
)
def test_the_views_are_moved_mirrored_and_weighted_as_said(tta, weights):
    """With a network that answers with every fourth pixel, so that a wrong view cannot hide in a sum."""
    images = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8).sin().to(memory_format=torch.channels_last)
    expected = torch.zeros(2, 48)
    for (move, flip), weight in weights.items():
        inside = [7 - abs(7 - abs(i - move)) for i in range(8)]  # reflected: -1 is 1, and 8 is 6
        view = images[:, :, inside][..., inside]
        expected += weight * (view.flip(3) if flip else view).flatten(1)[:, ::4]
    answers = mean_logits(lambda x: x.flatten(1)[:, ::4], images, tta)
    torch.testing.assert_close(answers, expected)


def test_a_stop_between_batches_ends_the_measurement(network, images):
    done = []
    assert collect_logits(network, images.split(8), on_images=done.append, stop=lambda: len(done) == 2) is None
    assert done == [8, 16]


def test_loss_and_accuracy_of_known_answers():
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    loss, top1 = loss_and_top1(logits, torch.tensor([0, 1]))
    assert loss == pytest.approx((0.6931 + 100) / 2, rel=1e-4)
    assert top1 == 0.5
