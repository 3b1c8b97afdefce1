import pytest
import torch
import torch.nn.functional as F

from resnetcli.config.extension import Extension
from resnetcli.config.train import TrainConfig, unused_settings
from resnetcli.data.sizes import Shrink, area_shares, size_in, small_epochs
from resnetcli.models.resnet import ResNet


@pytest.mark.parametrize("size", range(17, 33))
def test_a_new_pixel_is_the_mean_over_its_area_of_the_old_image(size):
    """Each old pixel drawn as `size` x `size` equal ones, of which 32 x 32 make a new pixel."""
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8).to(memory_format=torch.channels_last)
    drawn = images.double().repeat_interleave(size, 2).repeat_interleave(size, 3)
    shrunk = Shrink(32, size, images.device)(images)
    assert shrunk.dtype == torch.float32
    assert shrunk.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(shrunk.double(), F.avg_pool2d(drawn, 32), rtol=0, atol=1e-4)


def test_shares_of_a_mean_add_up_to_one_and_every_place_counts_the_same():
    shares = area_shares(32, 20)
    torch.testing.assert_close(shares.sum(1), torch.ones(20))
    torch.testing.assert_close(shares.sum(0), torch.full((32,), 20 / 32))


@pytest.mark.parametrize(
    ("epochs", "until", "small"),
    [(10, 0.5, 5), (3, 0.5, 2), (1, 0.5, 1), (1, 1e-5, 1), (10, 1.0, 10), (100, 0.55, 55), (100, 0.07, 7)],
)
def test_epochs_that_begin_before_the_share_have_small_images(epochs, until, small):
    config = TrainConfig(epochs=epochs, start_size=24, start_size_until=until)
    assert small_epochs(config) == small
    assert [size_in(config, epoch) for epoch in range(epochs)] == [24] * small + [32] * (epochs - small)


@pytest.mark.parametrize(
    ("policy", "epoch", "step", "until", "small"),
    [
        ("stretch", 10, 0, 0.5, 5),  # they had grown: they do not shrink again
        ("stretch", 6, 0, 0.5, 5),
        ("stretch", 5, 0, 0.5, 10),  # no larger ones have been seen yet
        ("stretch", 5, 1, 0.5, 5),
        ("stretch", 2, 3, 0.5, 10),
        ("restart", 2, 0, 0.5, 5),
        ("constant", 2, 0, 0.5, 5),
        ("restart", 10, 0, 1.0, 20),
    ],
)
def test_an_extension_lets_images_be_small_for_longer_but_never_again(policy, epoch, step, until, small):
    extension = Extension(epoch=epoch, step=step, epochs=10, policy=policy)
    config = TrainConfig(epochs=20, start_size=24, start_size_until=until, extensions=(extension,))
    assert small_epochs(config) == small


def test_without_a_start_size_all_images_have_full_size_and_the_share_is_named_as_unused():
    config = TrainConfig(epochs=4)
    assert {size_in(config, epoch) for epoch in range(4)} == {32}
    assert "start_size_until" in unused_settings(config)
    assert "start_size_until" not in unused_settings(config.model_copy(update={"start_size": 28}))


@pytest.mark.parametrize(("size", "sides"), [(17, (5, 3, 2)), (20, (5, 3, 2)), (24, (6, 3, 2)), (28, (7, 4, 2))])
def test_the_network_takes_every_size_that_may_be_asked_for_and_ends_on_2x2_maps(size, sides):
    network, seen = ResNet().eval(), []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage.register_forward_hook(lambda module, args, out: seen.append(out.shape[2]))
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 10)
    assert tuple(seen[:3]) == sides
    assert seen[3] == 2
