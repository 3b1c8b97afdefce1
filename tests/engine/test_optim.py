import pytest
import torch
from torch import nn

from resnetcli.config.train import TrainConfig
from resnetcli.engine.optim import Muon, Optimizers, orthogonalize
from resnetcli.models.resnet import ResNet


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32)])
def test_orthogonalised_matrices_keep_their_singular_vectors_and_lose_their_scale(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    results = orthogonalize(matrices, steps=5)
    for before, after in zip(matrices, results, strict=True):
        u, _, vt = torch.linalg.svd(before, full_matrices=False)
        aligned = u.T @ after @ vt.T
        values = aligned.diagonal()
        assert ((values > 0.3) & (values < 1.5)).all()
        assert (aligned - torch.diag(values)).abs().max() < 1e-3


def test_muon_gives_each_weight_the_norm_of_the_square_root_of_its_outputs_before_the_step():
    weight = nn.Parameter(torch.randn(9, 4, 3, 3))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1, momentum=0.9, dtype=torch.float32).step()
    assert weight.norm().item() == pytest.approx(3.0)


def test_muon_moves_a_weight_of_zeros_by_its_step_alone():
    zeros, other = nn.Parameter(torch.zeros(4, 4, 1, 1)), nn.Parameter(torch.randn(4, 4, 1, 1))
    for weight in (zeros, other):
        weight.grad = torch.eye(4)[..., None, None].clone()
    Muon([zeros, other], lr=0.1, momentum=0.9, dtype=torch.float32).step()
    step = orthogonalize(torch.eye(4)[None])[0]
    torch.testing.assert_close(zeros.detach()[..., 0, 0], -0.1 * step)


def test_muon_moves_weights_of_one_shape_as_it_moves_them_alone():
    torch.manual_seed(0)
    together = [nn.Parameter(torch.randn(8, 6, 1, 1)) for _ in range(3)]
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    for p, q in zip(together, alone, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
        Muon([q], 0.1, 0.9, torch.float32).step()
    Muon(together, 0.1, 0.9, torch.float32).step()
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", ["muon", "sgd", "adam", "adamw"])
def test_optimiser_state_survives_a_round_trip(name):
    config = TrainConfig(optimizer=name, weight_decay=0.01)

    def steps(network, optimizers, seeds):
        for seed in seeds:
            torch.manual_seed(seed)
            network(torch.randn(4, 3, 32, 32)).square().sum().backward()
            optimizers.step()
            network.zero_grad()

    torch.manual_seed(0)
    first = ResNet(branch_scale=0.3).to(memory_format=torch.channels_last)
    optimizers = Optimizers(first, config, "fp32")
    steps(first, optimizers, [1, 2])
    second = ResNet().to(memory_format=torch.channels_last)
    second.load_state_dict(first.state_dict())
    restored = Optimizers(second, config, "fp32")
    restored.load_state({k: v.detach().clone().contiguous() for k, v in optimizers.state().items()}, stepped=True)
    steps(first, optimizers, [3])
    steps(second, restored, [3])
    for (key, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("step", torch.ones((), dtype=torch.float16)),
        ("step", torch.ones((), dtype=torch.float64)),
        ("exp_avg", torch.zeros(())),
    ],
)
def test_state_that_a_fused_kernel_would_read_as_something_else_is_refused(name, key, tensor):
    network = ResNet()
    optimizers = Optimizers(network, TrainConfig(optimizer=name), "fp32")
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    optimizers.step()
    state = {k: tensor if k.endswith(f"/{key}") else v for k, v in optimizers.state().items()}
    with pytest.raises(ValueError, match=f"/{key} is torch"):
        Optimizers(ResNet(), TrainConfig(optimizer=name), "fp32").load_state(state, stepped=True)


def test_sgd_without_momentum_has_no_state_before_and_after_a_step():
    for stepped in (False, True):
        Optimizers(ResNet(), TrainConfig(optimizer="sgd", momentum=0), "fp32").load_state({}, stepped=stepped)


def test_weight_decay_spares_batch_norm_and_biases():
    optimizers = Optimizers(ResNet(), TrainConfig(optimizer="sgd", weight_decay=0.1), "fp32")
    for group in optimizers.members[0].param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


@pytest.mark.parametrize(("optimizer", "lr"), [("muon", 0.02), ("sgd", 0.1), ("adam", 0.1), ("adamw", 0.1)])
def test_biases_of_batch_norm_have_their_own_learning_rate(optimizer, lr):
    network = ResNet()
    config = TrainConfig(optimizer=optimizer, lr=0.1, sgd_lr=0.02, bias_lr_scale=8.0)
    optimizers = Optimizers(network, config, "fp32")
    assert optimizers.set_rate(0.5) == pytest.approx(0.05)
    rates = {
        id(p): group["lr"] for member in optimizers.members for group in member.param_groups for p in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    for name, p in network.named_parameters():
        if name.endswith("bn.bias"):
            assert rates[id(p)] == pytest.approx(0.5 * 8 * lr), name
        elif p.ndim == 1 or optimizer != "muon":
            assert rates[id(p)] == pytest.approx(0.5 * lr), name
