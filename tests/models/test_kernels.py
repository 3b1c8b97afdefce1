import copy

import pytest
import torch
import torch.nn.functional as F

from resnetcli.models.kernels import accelerate, dense3x3, pointwise, tap_table
from resnetcli.models.resnet import ResNet

BATCHES = (1, 2, 7, 128)


def both(images, weight, plain, fast):
    """Outputs and both gradients of two ways to compute the same."""
    results = []
    for compute in (plain, fast):
        x, w = images.clone().requires_grad_(), weight.clone().requires_grad_()
        out = compute(x, w)
        (out * torch.arange(out.numel()).view_as(out).sin()).sum().backward()
        results.append((out, x.grad, w.grad))
    return zip(*results, strict=True)


@pytest.mark.parametrize("count", BATCHES)
@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_product_equals_the_convolution(count, side, stride):
    torch.manual_seed(0)
    images = torch.randn(count, 24, side, side, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight = torch.randn(40, 24, 1, 1, dtype=torch.float64)
    for a, b in both(images, weight, lambda x, w: F.conv2d(x, w, stride=stride), lambda x, w: pointwise(x, w, stride)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("count", BATCHES)
def test_a_dense_product_equals_the_3x3_convolution_on_2x2_maps(count):
    torch.manual_seed(0)
    images = torch.randn(count, 24, 2, 2, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight = torch.randn(40, 24, 3, 3, dtype=torch.float64)
    fast = lambda x, w: dense3x3(x, w, tap_table())  # noqa: E731
    for a, b in both(images, weight, lambda x, w: F.conv2d(x, w, padding=1), fast):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", ["identity", "projection"])
def test_acceleration_keeps_names_parameters_and_float32_numbers(variant):
    plain = ResNet(shortcut=variant)
    fast = accelerate(copy.deepcopy(plain))
    images = torch.randn(3, 3, 32, 32).to(memory_format=torch.channels_last)
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert torch.equal(plain.eval()(images), fast.eval()(images))


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_acceleration_stays_within_bf16_rounding_of_the_plain_network(count):
    torch.manual_seed(0)
    plain = ResNet(branch_scale=0.3).to(memory_format=torch.channels_last).eval()
    fast = accelerate(copy.deepcopy(plain))
    images = torch.randn(count, 3, 32, 32).to(memory_format=torch.channels_last)
    exact = plain(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, accelerated = plain(images), fast(images)
    noise = (rounded - exact).norm() / exact.norm()
    assert 0 < noise < 0.05
    assert (accelerated - exact).norm() / exact.norm() < 2 * noise


def test_the_fast_paths_keep_images_channels_last():
    network, kept = accelerate(ResNet().to(memory_format=torch.channels_last)), []
    for block in network.modules():
        if type(block).__name__ == "ResidualBlock":
            block.register_forward_hook(
                lambda m, a, out: kept.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last))
    assert len(kept) == 13
    assert all(kept)
