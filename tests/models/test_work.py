from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetcli.models.resnet import ResNet
from resnetcli.models.work import HALF_READ, inference_flops, real_macs, real_taps, training_flops

AXES = [
    (size, kernel, stride, padding)
    for size, kernel, stride, padding in product((1, 2, 3, 4, 8, 32), (1, 3, 7), (1, 2), (0, 1, 3, 9))
    if size + 2 * padding >= kernel
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), AXES)
def test_real_taps_are_those_that_a_convolution_of_ones_adds_up(size, kernel, stride, padding):
    ones = torch.ones(1, 1, size), torch.ones(1, 1, kernel)
    assert real_taps(size, kernel, stride, padding) == F.conv1d(*ones, stride=stride, padding=padding).sum().item()


@pytest.fixture(scope="module", params=["identity", "projection"])
def network(request):
    return ResNet(shortcut=request.param)


def counted_with_ones(network, *, training, size=32):
    """Each layer computed on ones with ones for weights: its outputs then add up to its multiply-accumulates."""
    sums = {}

    def record(path):
        def hook(layer, args, output):
            weight = torch.ones_like(layer.weight, dtype=torch.float64)
            x = torch.ones_like(args[0], dtype=torch.float64)
            if isinstance(layer, nn.Linear):
                out = F.linear(x, weight)
            else:
                out = F.conv2d(x, weight, None, layer.stride, layer.padding)
                out = out if training or path not in HALF_READ else out[:, :, ::2, ::2]
            sums[path] = int(out.sum().item())

        return hook

    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(record(path)) for path, layer in layers]
    with torch.no_grad():
        network(torch.zeros(2, 3, size, size))
    for hook in hooks:
        hook.remove()
    return {path: total // 2 for path, total in sums.items()}


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_real_macs_of_every_layer_are_those_of_a_convolution_of_ones(network, training):
    macs = real_macs(network, training=training)
    assert macs == counted_with_ones(network, training=training)
    assert len(macs) == (46 if network.shortcut == "identity" else 54)
    assert macs["head"] == 10_240


@pytest.mark.parametrize("size", [17, 20, 24, 28])
def test_real_macs_of_smaller_images_are_those_of_smaller_maps(network, size):
    macs = real_macs(network, training=True, size=size)
    assert macs == counted_with_ones(network, training=True, size=size)
    assert training_flops(network, size) < training_flops(network)


def test_what_inference_leaves_out_is_read_by_nobody(network):
    network.eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
        hooks = []
        for path in HALF_READ & dict(network.named_modules()).keys():
            every_second = torch.zeros(8 if path.startswith("layer2") else 4)
            every_second[::2] = 1
            kept = every_second[:, None] * every_second
            hooks.append(
                network.get_submodule(path).register_forward_hook(lambda layer, args, out, kept=kept: out * kept)
            )
        thinned = network(images)
    for hook in hooks:
        hook.remove()
    assert len(hooks) == (4 if network.shortcut == "identity" else 6)
    torch.testing.assert_close(thinned, expected)


def test_the_figures_of_the_identity_variant_are_the_known_ones():
    network = ResNet()
    total, stem = sum(real_macs(network, training=True).values()), 3 * 64 * 106**2
    assert total == 47_622_912 + 10_240
    assert training_flops(network) == 2 * (3 * total - stem)
    assert inference_flops(network) == 2 * 43_344_640


def test_counting_leaves_the_mode_and_the_statistics_of_the_network_alone(network):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    real_macs(network, training=True)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
