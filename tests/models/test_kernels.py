import copy

import pytest
import torch
import torch.nn.functional as F

from resnetcli.models.kernels import accelerate, dense3x3, pointwise, tap_table
from resnetcli.models.resnet import ResNet

BATCHES = (1, 2, 7, 65)


def both(images, weight, plain, fast):
    """Outputs and both gradients of two ways to compute the same."""
    results = []
    for compute in (plain, fast):
        x, w = images.clone().requires_grad_(), weight.clone().requires_grad_()
        out = compute(x, w)
        (out * torch.arange(out.numel()).view_as(out).sin()).sum().backward()
        results.append((out, x.grad, w.grad))
    return zip(*results, strict=True)


SHAPES = [
    # in, out, side and stride of every 1x1 convolution that becomes a product in some precision
    *((256, 64, 8, 2), (256, 256, 8, 2), (512, 128, 4, 2), (512, 512, 4, 2)),
    *((64, 256, 4, 1), (256, 128, 4, 1), (256, 512, 4, 1), (512, 128, 4, 1), (128, 512, 4, 1)),
    # of images of 20 and of 24 pixels a side, where they differ
    *((256, 64, 5, 2), (256, 256, 5, 2), (256, 64, 6, 2), (256, 256, 6, 2), (256, 64, 7, 2), (256, 256, 7, 2)),
    *((512, 128, 3, 2), (512, 512, 3, 2), (64, 256, 3, 1), (256, 128, 3, 1), (256, 512, 3, 1), (128, 512, 3, 1)),
    *((64, 64, 5, 1), (64, 256, 5, 1), (256, 64, 5, 1)),
    *((128, 512, 2, 1), (512, 256, 2, 1), (512, 1024, 2, 1), (1024, 256, 2, 1), (256, 1024, 2, 1), (1024, 1024, 2, 1)),
]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


def assert_near(a, b, dtype):
    """Within rounding of the largest element."""
    assert a.dtype == b.dtype == dtype
    assert (a - b).abs().max() <= TOLERANCE[dtype] * a.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count", BATCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_pointwise_product_equals_the_convolution(count, shape, dtype):
    in_, out, side, stride = shape
    torch.manual_seed(0)
    images = torch.randn(count, in_, side, side, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(out, in_, 1, 1, dtype=dtype)
    for a, b in both(images, weight, lambda x, w: F.conv2d(x, w, stride=stride), lambda x, w: pointwise(x, w, stride)):
        assert_near(a, b, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count", BATCHES)
@pytest.mark.parametrize("channels", [128, 256])
def test_a_dense_product_equals_the_3x3_convolution_on_2x2_maps(count, channels, dtype):
    torch.manual_seed(0)
    images = torch.randn(count, channels, 2, 2, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, dtype=dtype)
    fast = lambda x, w: dense3x3(x, w, tap_table())  # noqa: E731
    for a, b in both(images, weight, lambda x, w: F.conv2d(x, w, padding=1), fast):
        assert_near(a, b, dtype)


def trained_step(network, images):
    """Logits in training mode, and all gradients, joined."""
    logits = network.train()(images)
    F.cross_entropy(logits, torch.arange(len(images)) % 10).backward()
    return logits.detach(), torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize(
    ("variant", "count"), [*(("identity", count) for count in (1, 2, 7, 128)), ("projection", 2), ("projection", 33)]
)
def test_acceleration_keeps_names_state_and_numbers(variant, count):
    torch.manual_seed(0)
    plain = ResNet(shortcut=variant, branch_scale=0.3).to(memory_format=torch.channels_last)
    fast = accelerate(copy.deepcopy(plain))
    images = torch.randn(count, 3, 32, 32).to(memory_format=torch.channels_last)
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in fast.named_parameters()]
    exact = trained_step(copy.deepcopy(plain).double(), images.double())[0]
    a, b = trained_step(plain, images)[0], trained_step(fast, images)[0]
    # BatchNorm over the four values that one image has on a 2x2 map magnifies rounding, the plain network's too.
    assert (b - exact).abs().max() <= max(1e-5 * exact.abs().max(), 3 * (a - exact).abs().max())
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(fast.get_buffer(name), buffer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "count", "size"),
    [
        *(("identity", 7, size) for size in (17, 20, 24, 28, 32)),
        *(("identity", count, 32) for count in (1, 2, 65)),
        *(("identity", 65, size) for size in (20, 24)),
        *(("projection", count, size) for count, size in ((2, 32), (7, 17), (7, 20), (7, 24), (7, 28), (33, 32))),
    ],
)
def test_the_gradients_of_the_accelerated_network_are_those_of_the_plain_one(variant, count, size):
    """In float64: in float32 an activation that rounding puts on the other side of 0 moves a gradient by a percent,
    whichever of two exact ways computed it."""
    torch.manual_seed(0)
    plain = ResNet(shortcut=variant, branch_scale=0.3).double().to(memory_format=torch.channels_last)
    fast = accelerate(copy.deepcopy(plain))
    images = torch.randn(count, 3, size, size, dtype=torch.float64).to(memory_format=torch.channels_last)
    (_, expected), (_, gradients) = trained_step(plain, images), trained_step(fast, images)
    assert (gradients - expected).norm() / expected.norm() < 1e-10


@pytest.mark.parametrize(("count", "size"), [(1, 32), (2, 32), (7, 32), (64, 32), (7, 20), (64, 24), (7, 28)])
def test_acceleration_stays_within_bf16_rounding_of_the_plain_network(count, size):
    torch.manual_seed(0)
    plain = ResNet(branch_scale=0.3).to(memory_format=torch.channels_last).eval()
    fast = accelerate(copy.deepcopy(plain))
    images = torch.randn(count, 3, size, size).to(memory_format=torch.channels_last)
    exact = plain(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, accelerated = plain(images), fast(images)
    noise = (rounded - exact).norm() / exact.norm()
    assert 0 < noise < 0.05
    assert (accelerated - exact).norm() / exact.norm() < 2 * noise


@pytest.mark.parametrize("size", [20, 24, 28, 32])
def test_the_fast_paths_keep_images_channels_last(size):
    network, kept = accelerate(ResNet().to(memory_format=torch.channels_last)), []
    for block in network.modules():
        if type(block).__name__ == "ResidualBlock":
            block.register_forward_hook(
                lambda m, a, out: kept.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(4, 3, size, size).to(memory_format=torch.channels_last))
    assert len(kept) == 13
    assert all(kept)
