import pytest
import torch
from torch import nn

from resnetcli.models.resnet import ResNet

FIGURES = {"identity": (45, 8_882_762, 8_898_826), "projection": (53, 14_728_266, 14_750_730)}


@pytest.mark.parametrize("variant", FIGURES)
def test_the_network_has_the_specified_size(variant):
    network = ResNet(shortcut=variant)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    parameters = sum(p.numel() for p in network.parameters())
    biases = sum(c.out_channels for c in convolutions)
    assert (len(convolutions), parameters, parameters + biases) == FIGURES[variant]
    assert all(c.bias is None for c in convolutions)


def test_the_identity_variant_has_the_specified_buffers():
    assert sum(b.numel() for b in ResNet().buffers()) == 32_173


def test_the_stages_have_the_specified_shapes():
    network, shapes = ResNet(), {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(
            lambda m, a, out, name=name: shapes.update({name: out.shape[1:]})
        )
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == {"layer1": (64, 8, 8), "layer2": (256, 4, 4), "layer3": (512, 2, 2), "layer4": (1024, 2, 2)}


def test_nothing_follows_the_sum_of_a_block_and_every_unit_clips_before_it():
    block = ResNet().layer2[1]
    x = -torch.rand(2, 256, 8, 8)
    out = block(x)
    assert (out < 0).any()  # an activation after the sum would leave none
    assert (out - x).min() >= 0  # the branch ends in its own ReLU


def test_the_branch_scale_sets_the_last_batch_norm_of_every_branch_and_no_other():
    network = ResNet(branch_scale=0.25)
    ends = {f"{n}.branch.2.bn" for n, m in network.named_modules() if hasattr(m, "branch")}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == (0.25 if name in ends else 1.0)).all(), name
