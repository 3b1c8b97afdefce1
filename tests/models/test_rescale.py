"""Larger convolutions in front of BatchNorm: other weights, the same answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnetcli.models.rescale import rescale, rescale_for_muon
from resnetcli.models.resnet import ConvUnit, ResNet


@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_rescaled_networks_answer_as_before(shortcut):
    torch.manual_seed(0)
    network = ResNet(shortcut=shortcut, branch_scale=0.3)
    images = torch.randn(64, 3, 32, 32)
    network.train()(images)  # statistics that are not those of a new network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = network.eval()(images)
    rescale(network, 10.0)
    after = network.state_dict()
    assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)
    convolutions = [name for name in before if name.endswith("conv.weight")]
    assert len(convolutions) == (45 if shortcut == "identity" else 53)
    for name in before:
        changed = name in convolutions or "running" in name
        assert torch.equal(after[name], before[name]) != changed, name
    for name in convolutions:
        assert torch.equal(after[name], before[name] * 10)


def test_channels_that_hardly_vary_keep_their_answers_and_get_no_negative_variance():
    torch.manual_seed(0)
    network = ResNet(branch_scale=0.3)
    network.train()(torch.randn(64, 3, 32, 32))
    quiet = network.layer3[0].branch[0].bn
    quiet.running_var[:5] = torch.tensor([0.0, 1e-9, 1e-7, 1e-6, 1e-4])
    images = torch.randn(8, 3, 32, 32)
    expected = network.eval()(images)
    rescale(network, 0.1)
    assert min(v.min() for n, v in network.state_dict().items() if n.endswith("running_var")) == 0
    assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_for_muon_every_convolution_has_the_norm_that_a_step_would_give_it():
    torch.manual_seed(0)
    network = ResNet(shortcut="projection", branch_scale=0.3)
    nn.init.zeros_(network.layer4[2].branch[1].conv.weight)
    images = torch.randn(64, 3, 32, 32)
    network.train()(images)
    expected = network.eval()(images)
    rescale_for_muon(network)
    assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)
    convolutions = [unit.conv for unit in network.modules() if isinstance(unit, ConvUnit)]
    norms = [convolution.weight.norm().item() ** 2 / convolution.out_channels for convolution in convolutions]
    assert norms.count(0.0) == 1
    assert [n for n in norms if n] == pytest.approx([1.0] * 52, rel=1e-5)


def test_tensors_of_the_caller_stay_as_they_are():
    network = ResNet()
    weights = dict(network.state_dict())
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    rescale(network, 3.0)
    for name, tensor in weights.items():
        assert torch.equal(tensor, copies[name])
