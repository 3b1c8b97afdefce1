"""Weights of this network in whatever training scripts put around and in front of them."""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from resnetcli.checkpoints.reading import Checkpoint, lineage_from
from resnetcli.errors import CheckpointError
from resnetcli.events import Notice
from resnetcli.pickle_guard import MAX_SHARED, check_pickle
from resnetcli.services.networks import open_network
from tests.foreign import SMALL, ForeignNet, lived_in
from tests.small import small_network

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with small_network():
        yield


def opened(name: str) -> tuple[Checkpoint, State, str]:
    """Checkpoint, the network's state, and all notices."""
    notices: list[str] = []
    checkpoint, network = open_network(name, lambda e: notices.append(e.text) if isinstance(e, Notice) else None)
    return checkpoint, network.state_dict(), "\n".join(notices)


def weights_of(net: ForeignNet) -> State:
    torch.save(net.state_dict(), "bare.pth")
    return opened("bare.pth")[1]


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def inside(state: State, wrapper: str) -> State:
    """As a wrapper of every block would name it."""
    return {re.sub(r"^(layer[2-4]\.\d+)\.", rf"\1.{wrapper}.", name): tensor for name, tensor in state.items()}


ONE_SET: dict[str, Callable[[State], Any]] = {
    "torch.compile": lambda s: prefixed("_orig_mod.", s),
    "DataParallel of torch.compile": lambda s: {"model": prefixed("module._orig_mod.", s)},
    "torch.compile of DataParallel": lambda s: {"state_dict": prefixed("_orig_mod.module.", s)},
    "torch.compile of each block": lambda s: inside(s, "_orig_mod"),
    "FSDP and activation checkpoints": lambda s: prefixed(
        "_fsdp_wrapped_module.", inside(s, "_checkpoint_wrapped_module")
    ),
    "Lightning": lambda s: {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": prefixed("model.", s) | {"criterion.weight": torch.ones(10)},
        "hyper_parameters": {"lr": 0.1, "layers": [3, 4, 6]},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(64, 3, 7, 7)}}, "param_groups": []}],
    },
    "Lightning with torch.compile": lambda s: {"state_dict": prefixed("net._orig_mod.", s)},
    "Lightning beside a loss without prefix": lambda s: {"state_dict": s | {"criterion.weight": torch.ones(10)}},
    "a backbone": lambda s: {"state_dict": prefixed("backbone.network.", s)},
    "net, acc and epoch": lambda s: {"net": s, "acc": 91.2, "epoch": 285},
    "net of DataParallel": lambda s: {"net": prefixed("module.", s), "acc": 91.2},
    "an unusual name": lambda s: {"resnet50_small": s, "notes": "the best one"},
    "nested": lambda s: {"checkpoint": {"best": {"model": prefixed("module.model.", s)}}},
    "a list": lambda s: {"models": [s], "epoch": 3},
    "weights and numbers side by side": lambda s: {**s, "epoch": 3, "best": 0.9},
    "AveragedModel alone": lambda s: {"n_averaged": torch.tensor(4), **prefixed("module.", s)},
    "parameters": lambda s: {
        n: torch.nn.Parameter(t) if t.is_floating_point() and "running" not in n else t for n, t in s.items()
    },
}


FLAT = ("torch.compile", "torch.compile of each block", "FSDP and activation checkpoints", "AveragedModel alone")
"""Those that safetensors can hold."""


@pytest.mark.parametrize(
    ("kind", "ending"), [*((kind, "pth") for kind in ONE_SET), *((kind, "safetensors") for kind in FLAT)]
)
def test_what_is_put_around_the_weights_is_taken_away(kind: str, ending: str) -> None:
    net = lived_in("identity", 0, SMALL)
    content = ONE_SET[kind](net.state_dict())
    if ending == "safetensors":
        safetensors.torch.save_file(content, "x.safetensors")
    else:
        torch.save(content, "x.pth")
    checkpoint, weights, notices = opened(f"x.{ending}")
    assert (checkpoint.kind, checkpoint.header.origin) == ("foreign", f"x.{ending}")
    assert same(weights, weights_of(net))
    for dropped in ("n_averaged", "criterion.weight"):
        there = f"'{dropped}'" in repr([*content, *content.get("state_dict", ())])
        assert (f"{dropped} left out" in notices) is there


def test_our_own_names_are_read_too() -> None:
    net = lived_in("identity", 0, SMALL)
    ours = weights_of(net)
    torch.save({"state_dict": prefixed("model._orig_mod.", ours)}, "ours.pth")
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in ours.items()}, "ours.safetensors")
    assert same(opened("ours.pth")[1], ours)
    assert same(opened("ours.safetensors")[1], ours)


def test_a_folder_of_accelerate_or_transformers_is_the_file_in_it(tmp_path: Path) -> None:
    net = lived_in("identity", 0, SMALL)
    (tmp_path / "saved").mkdir()
    safetensors.torch.save_file(prefixed("module.", net.state_dict()), "saved/model.safetensors")
    (tmp_path / "saved" / "config.json").write_text("{}")
    checkpoint, weights, _ = opened("saved")
    assert checkpoint.kind == "foreign"
    assert same(weights, weights_of(net))


TWO_SETS: dict[str, tuple[Callable[[State, State], Any], str]] = {  # and the place of the averaged ones
    "timm": (lambda r, e: {"arch": "x", "state_dict": r, "state_dict_ema": e, "metric": 91.0}, "state_dict_ema"),
    "torchvision's references": (
        lambda r, e: {"model": r, "model_ema": {"n_averaged": torch.tensor(9), **prefixed("module.", e)}},
        "model_ema",
    ),
    "lucidrains": (
        lambda r, e: {
            **prefixed("online_model.", r),
            **prefixed("ema_model.", e),
            "initted": torch.tensor(True),
            "step": torch.tensor(7),
        },
        "ema_model",
    ),
    "lucidrains inside": (
        lambda r, e: {"step": 7, "ema": {**prefixed("online_model.", r), **prefixed("ema_model.", e)}},
        "ema/ema_model",
    ),
    "Lightning, EMA in the module": (
        lambda r, e: {"state_dict": {**prefixed("model.", r), **prefixed("ema.module.", e)}},
        "state_dict/ema",
    ),
    "Lightning, WeightAveraging": (
        lambda r, e: {
            "state_dict": prefixed("model.", e),
            "current_model_state": prefixed("model.", r),
            "averaging_state": {"n_averaged": torch.tensor(3)},
        },
        "state_dict/model",
    ),
    "SWA": (lambda r, e: {"net": r, "swa_model": prefixed("module.", e)}, "swa_model"),
    "the averaged ones first": (lambda r, e: {"modelEMA": e, "model": r}, "modelEMA"),
    "teacher and student": (lambda r, e: {"student": r, "teacher": e}, "teacher"),
    "beside each other without prefix": (lambda r, e: {**r, **prefixed("ema.", e)}, "ema"),
}


@pytest.mark.parametrize("kind", TWO_SETS)
def test_of_raw_and_averaged_weights_the_averaged_ones_are_taken_and_the_others_can_be(kind: str) -> None:
    raw, averaged = lived_in("identity", 0, SMALL), lived_in("identity", 1, SMALL)
    wrap, place = TWO_SETS[kind]
    torch.save(wrap(raw.state_dict(), averaged.state_dict()), "two.pth")
    checkpoint, weights, notices = opened("two.pth")
    assert same(weights, weights_of(averaged))
    assert f"two.pth: holds averaged (EMA) and raw weights; those of {place} are taken" in notices
    assert checkpoint.header.origin == f"two.pth ({place})"
    assert lineage_from(checkpoint, "two.pth")[0].origin == f"two.pth ({place})"
    command = re.search(r"torch\.save\(.*'other\.pth'\)", notices)
    assert command is not None
    exec(command[0], {"torch": torch})
    assert same(opened("other.pth")[1], weights_of(raw))


@pytest.mark.parametrize("listed", [False, True])
def test_averages_of_parameters_get_the_statistics_of_the_raw_weights(listed: bool) -> None:
    raw, averaged = lived_in("identity", 0, SMALL), lived_in("identity", 1, SMALL)
    parameters = {name: p.detach() for name, p in averaged.named_parameters()}
    ema = {"decay": 0.99, "shadow_params": list(parameters.values())} if listed else parameters
    torch.save({"model": raw.state_dict(), "ema": ema}, "ema.pth")
    expected = copy.deepcopy(averaged)
    for to, of in zip(expected.buffers(), raw.buffers(), strict=True):
        to.copy_(of)
    _, weights, notices = opened("ema.pth")
    assert same(weights, weights_of(expected))
    assert "with the BatchNorm statistics of model" in notices


def test_a_list_without_names_that_has_other_shapes_is_no_average_of_these_weights() -> None:
    raw = lived_in("identity", 0, SMALL)
    torch.save({"model": raw.state_dict(), "ema": {"shadow_params": [torch.ones(3)]}}, "ema.pth")
    assert same(opened("ema.pth")[1], weights_of(raw))


def test_averages_of_a_part_are_no_choice() -> None:
    raw = lived_in("identity", 0, SMALL)
    part = {n: t for n, t in lived_in("identity", 1, SMALL).state_dict().items() if "layer2" in n}
    torch.save({"model": raw.state_dict(), "ema": part}, "ema.pth")
    assert same(opened("ema.pth")[1], weights_of(raw))


def test_of_several_raw_sets_the_usual_name_is_taken_and_the_choice_is_said() -> None:
    first, second = lived_in("identity", 0, SMALL), lived_in("identity", 1, SMALL)
    torch.save({"previous": first.state_dict(), "model": second.state_dict()}, "two.pth")
    _, weights, notices = opened("two.pth")
    assert same(weights, weights_of(second))
    assert "holds 2 sets of weights; those of model are taken" in notices


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_the_states_of_a_whole_training_are_no_obstacle(optimizer: type[torch.optim.Optimizer]) -> None:
    net = lived_in("identity", 0, SMALL)
    opt = optimizer(net.parameters(), lr=1e-9)
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    opt.step()
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        opt,
        [torch.optim.lr_scheduler.LinearLR(opt), torch.optim.lr_scheduler.MultiStepLR(opt, [2, 4])],
        milestones=[1],
    )
    content = {
        "model": net.state_dict(), "optimizer": opt.state_dict(), "lr_scheduler": scheduler.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(), "epoch": 3, "args": {"lr": 0.1, "data": "cifar10"},
        "rng": torch.get_rng_state(), "history": [{"loss": 0.5, "top1": 0.9}] * 3,
    }  # fmt: skip
    torch.save(content, "training.pth")
    assert same(opened("training.pth")[1], weights_of(net))


NOT_OURS: dict[str, tuple[Callable[[State], Any], list[str]]] = {
    "another block": (lambda s: {"model": s | {"layer2.0.se.fc.weight": torch.ones(4, 4)}}, ["layer2.0.se.fc.weight"]),
    "another stem": (lambda s: prefixed("net.", s | {"conv1.weight": torch.ones(4)}), ["net.conv1.weight", "another"]),
    "a scale that would matter": (lambda s: s | {"scale": torch.ones(())}, ["'scale'", "another network"]),
    "other tensors": (
        lambda s: {"encoder": {"w": torch.ones(3, 2), "b": torch.ones(2)}, "epoch": 3},
        ["no weights of this network", "encoder: 2 tensors: w (3, 2), b (2,)", "torch.save(model.state_dict(), PATH)"],
    ),
    "nothing": (
        lambda s: {"epoch": 3, "history": [1.0]},
        ["no state_dict of tensors; its keys are epoch (int), history (list)", "torch.save(model.state_dict(), PATH)"],
    ),
}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_what_is_not_this_network_is_refused_with_what_was_found(kind: str) -> None:
    wrap, said = NOT_OURS[kind]
    torch.save(wrap(lived_in("identity", 0, SMALL).state_dict()), "x.pth")
    with pytest.raises(CheckpointError) as caught:
        opened("x.pth")
    for words in said:
        assert words in f"{caught.value.message}; {caught.value.hint}"


def test_a_whole_module_is_refused_with_what_to_save() -> None:
    torch.save(lived_in("identity", 0, SMALL), "x.pth")
    with pytest.raises(CheckpointError, match="nothing was executed") as caught:
        opened("x.pth")
    assert "torch.save(model.state_dict(), PATH)" in caught.value.hint


@pytest.mark.parametrize(
    ("make", "name"),
    [
        ("resnet50", "torchvision or timm ResNet-50"),
        ("resnet18", "torchvision or timm ResNet-18"),
        ("resnet34", "torchvision or timm ResNet-34"),
        ("wide_resnet50_2", "torchvision or timm ResNet "),
    ],
)
def test_a_resnet_of_torchvision_is_called_so(make: str, name: str) -> None:
    import torchvision

    with torch.device("meta"):
        shapes = getattr(torchvision.models, make)().state_dict()
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in shapes.items()}
    for content in (state, {"model": prefixed("module.", state)}):
        torch.save(content, "x.pth")
        with pytest.raises(CheckpointError, match=f"weights of a {name}") as caught:
            opened("x.pth")
        assert "another network" in caught.value.message


def test_a_mistake_in_a_foreign_file_is_named_as_in_the_file() -> None:
    state = lived_in("identity", 0, SMALL).state_dict()
    torch.save(prefixed("model.", state | {"layer2.7.layer.0.0.weight": torch.ones(1)}), "x.pth")
    with pytest.raises(CheckpointError, match=re.escape("(in the file model.layer2.7.layer.0.0.weight)")):
        opened("x.pth")


def test_containers_that_hold_themselves_end() -> None:
    around: dict[str, Any] = {"a": [1, 2]}
    around["itself"] = [around, around]
    torch.save(around, "x.pth")
    with pytest.raises(CheckpointError, match="no state_dict"):
        opened("x.pth")


def test_several_dicts_may_hold_the_same_tensors() -> None:
    net = lived_in("identity", stages=SMALL)
    state = net.state_dict()
    torch.save({"state_dict": state, **{f"best{k}": dict(state) for k in range(6)}}, "shared.pth")
    assert 6 * len(state) > 100
    _, found, _ = opened("shared.pth")
    assert same(found, weights_of(net))


def test_an_optimizer_with_a_group_for_each_parameter_is_no_obstacle() -> None:
    net = lived_in("identity")  # 137 parameters: more groups than objects may be shared
    groups = [{"params": [parameter]} for parameter in net.parameters()]
    assert len(groups) > MAX_SHARED
    torch.save({"model": net.state_dict(), "optimizer": torch.optim.AdamW(groups).state_dict()}, "groups.pth")
    check_pickle(io.BytesIO(zipfile.ZipFile("groups.pth").read("groups/data.pkl")))
