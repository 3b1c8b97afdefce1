import pytest
import torch

from resnetcli.engine.evaluate import collect_logits, evaluating, logits_of, loss_and_top1
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


@pytest.mark.parametrize("size", [1, 3, 31])
@pytest.mark.parametrize("tta", [False, True])
def test_an_answer_does_not_depend_on_the_batch_that_an_image_is_in(threads, network, images, size, tta):
    whole = collect_logits(network, images.split(32), tta=tta)
    parts = collect_logits(network, images[:40].split(size), tta=tta)
    assert torch.equal(whole[:40], parts)


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


def test_test_time_augmentation_gives_an_image_and_its_mirror_image_the_same_answer(network, images):
    with evaluating(network):
        a, b = (logits_of(network, x, tta=True) for x in (images[:8], images[:8].flip(3)))
    torch.testing.assert_close(a, b)


def test_a_stop_between_batches_ends_the_measurement(network, images):
    done = []
    assert collect_logits(network, images.split(8), on_images=done.append, stop=lambda: len(done) == 2) is None
    assert done == [8, 16]


def test_loss_and_accuracy_of_known_answers():
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    loss, top1 = loss_and_top1(logits, torch.tensor([0, 1]))
    assert loss == pytest.approx((0.6931 + 100) / 2, rel=1e-4)
    assert top1 == 0.5
