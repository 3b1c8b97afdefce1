import pytest

from resnetcli.models.resnet import ResNet
from resnetcli.models.summary import summarize


@pytest.fixture(scope="module", params=["identity", "projection"])
def rows(request):
    return request.param, summarize(ResNet(shortcut=request.param), (4, 3, 32, 32))


def test_macs_of_the_convolutions_are_the_specified_ones(rows):
    variant, layers = rows
    by_kernel = {
        k: sum(r.macs for r in layers if r.kind.startswith(f"Conv2d {k}")) / 1e6 for k in ("7x7", "1x1", "3x3")
    }
    if variant == "identity":
        assert {k: round(v, 2) for k, v in by_kernel.items()} == {"7x7": 2.41, "1x1": 29.62, "3x3": 27.13}
    assert round(sum(by_kernel.values()), 1) == (59.2 if variant == "identity" else 92.7)
    assert next(r for r in layers if r.path == "head").macs == 10_240


def test_every_total_is_the_sum_of_what_lies_below_it(rows):
    _, layers = rows
    for parent in layers:
        children = [
            r
            for r in layers
            if r.depth == parent.depth + 1 and (not parent.path or r.path.startswith(parent.path + "."))
        ]
        if children:
            for field in ("parameters", "trainable", "buffers", "macs", "activation_bytes"):
                assert getattr(parent, field) == sum(getattr(c, field) for c in children), (parent.path, field)


def test_memory_of_activations_grows_with_the_batch_and_macs_do_not(rows):
    variant, four = rows
    eight = summarize(ResNet(shortcut=variant), (8, 3, 32, 32))
    assert eight[0].activation_bytes == 2 * four[0].activation_bytes
    assert eight[0].macs == four[0].macs


def test_frozen_parameters_are_told_from_trainable_ones():
    network = ResNet()
    network.layer1.requires_grad_(False)
    total = summarize(network, (1, 3, 32, 32))[0]
    assert total.parameters - total.trainable == 64 * 3 * 49 + 128
