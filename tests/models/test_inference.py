import pytest
import torch

from resnetcli.models.inference import InferenceNetwork
from resnetcli.models.kernels import accelerate
from resnetcli.models.resnet import ResNet


@pytest.fixture(scope="module", params=["identity", "projection"])
def network(request):
    """With statistics, scales and shifts that are not the initial ones."""
    torch.manual_seed(0)
    network = ResNet(shortcut=request.param, branch_scale=0.3).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(5):
            network(torch.randn(64, 3, 32, 32))
    return network.eval()


def images(count):
    return torch.randn(count, 3, 32, 32).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [1, 2, 7, 128])
def test_folding_gives_the_logits_of_the_plain_network(network, count):
    x = images(count)
    with torch.inference_mode():
        plain, folded = network(x), InferenceNetwork(network)(x)
    assert folded.dtype == torch.float32
    assert (folded - plain).abs().max() / plain.abs().max() < 1e-5


def test_bf16_differs_by_its_rounding_only(network):
    x = images(64)
    with torch.inference_mode():
        plain, folded = network(x), InferenceNetwork(network, torch.bfloat16)(x)
    assert 0 < (folded - plain).norm() / plain.norm() < 0.03


def test_it_is_a_copy_that_training_does_not_reach(network):
    x = images(4)
    with torch.inference_mode():
        folded = InferenceNetwork(network)
        before = folded(x)
        for p in network.parameters():
            p.add_(1e-3)
        assert torch.equal(folded(x), before)
        for p in network.parameters():
            p.sub_(1e-3)


def test_a_network_with_the_fast_paths_of_training_folds_to_the_same(network):
    x = images(8)
    with torch.inference_mode():
        expected = InferenceNetwork(network)(x)
        fast = ResNet(shortcut=network.shortcut)
        fast.load_state_dict(network.state_dict())
        assert torch.equal(InferenceNetwork(accelerate(fast.to(memory_format=torch.channels_last)))(x), expected)


def test_it_does_not_compute_what_the_next_block_skips(network):
    """The block in front of a downsampling one works on a quarter of the pixels, and so do both its successors."""
    sides = []
    folded = InferenceNetwork(network)
    for block in folded.blocks:
        block.register_forward_hook(lambda module, args, output: sides.append(output.shape[2]))
    with torch.inference_mode():
        folded(images(2))
    assert sides == [8, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2]
