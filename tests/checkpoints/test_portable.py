import json

import pytest
import safetensors.torch
import torch

from resnetcli.checkpoints.format import (
    MAX_HEADER_BYTES,
    MAX_ITEMS,
    Architecture,
    ModelHeader,
    Normalization,
    encode,
    read_weights,
)
from resnetcli.checkpoints.portable import DTYPES, rounded, without_places
from resnetcli.errors import CheckpointError
from resnetcli.models.resnet import ResNet
from resnetcli.results.checkpoints import Ancestor

HEADER = ModelHeader(
    architecture=Architecture(),
    class_names=tuple("abcdefghij"),
    normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)


@pytest.fixture(scope="module")
def weights():
    """A network whose BatchNorm statistics no half precision could hold."""
    torch.manual_seed(0)
    state = ResNet().state_dict()
    state["layer1.0.bn.running_var"] = torch.linspace(1e-9, 1e9, 64)
    state["layer1.0.bn.running_mean"] = torch.linspace(1.0, 1.0001, 64)
    state["layer1.0.bn.num_batches_tracked"] = torch.tensor(123_456_789)
    return state


def reread(path, weights, header):
    path.write_bytes(encode(weights, header))
    return read_weights(path)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_matrices_are_rounded_and_everything_of_batchnorm_stays_exact(tmp_path, weights, dtype):
    small, header = rounded(weights, HEADER, dtype)
    read, stated = reread(tmp_path / "x.safetensors", small, header)
    assert stated.rounded == header.rounded
    assert {name for name, t in small.items() if t.dtype == DTYPES[dtype]} == {
        n for n, t in weights.items() if t.ndim > 1
    }
    for name, tensor in weights.items():
        assert read[name].dtype == tensor.dtype
        expected = tensor.to(DTYPES[dtype]).float() if tensor.ndim > 1 else tensor
        assert torch.equal(read[name], expected), name
    worst = max((read[name] - t).abs().max().item() for name, t in weights.items() if t.ndim > 1)
    assert (stated.rounded.dtype, stated.rounded.largest_error) == (dtype, worst)
    assert worst > 0


def test_half_precision_halves_the_file_and_float32_leaves_it_as_it_is(weights):
    assert rounded(weights, HEADER, "fp32") == (weights, HEADER)
    whole, half = (len(encode(*rounded(weights, HEADER, dtype))) for dtype in ("fp32", "fp16"))
    assert half < 0.51 * whole


def test_rounding_what_is_rounded_changes_nothing_and_otherwise_errors_add_up(tmp_path, weights):
    once, header = rounded(weights, HEADER, "fp16")
    read, stated = reread(tmp_path / "x.safetensors", once, header)
    again, same = rounded(read, stated, "fp16")
    assert same == stated
    assert encode(again, same) == encode(once, header)
    assert rounded(read, stated, "fp32")[1] == stated
    _, coarser = rounded(read, stated, "bf16")
    assert coarser.rounded.dtype == "bf16"
    assert coarser.rounded.largest_error > stated.rounded.largest_error
    true_error = max((read[n].bfloat16().float() - t).abs().max().item() for n, t in weights.items() if t.ndim > 1)
    assert coarser.rounded.largest_error >= true_error


@pytest.mark.parametrize(("value", "dtype"), [(70_000.0, "fp16"), (float("nan"), "bf16"), (float("inf"), "fp16")])
def test_a_weight_that_has_no_place_in_half_precision_is_an_error_that_names_it(value, dtype):
    with pytest.raises(CheckpointError, match=f"head.weight holds {value:g}, and {dtype} ends at") as caught:
        rounded({"head.weight": torch.full((2, 2), value)}, HEADER, dtype)
    assert "fp32" in caught.value.hint


HOSTILE = {
    "twice the precision": torch.ones(2, 2, dtype=torch.float64),
    "eight bits": torch.ones(2, 2).to(torch.float8_e4m3fn),
    "whole numbers": torch.ones(2, 2, dtype=torch.int64),
    "bytes": torch.ones(2, 2, dtype=torch.uint8),
    "truth values": torch.ones(2, 2, dtype=torch.bool),
    "complex numbers": torch.ones(2, 2, dtype=torch.complex64),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_weights_of_any_other_kind_of_number_are_refused(tmp_path, kind):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save({"head.weight": HOSTILE[kind]}, {"resnetcli": HEADER.model_dump_json()}))
    with pytest.raises(
        CheckpointError, match=r"x\.safetensors: head\.weight is stored as torch\.\w+, expected float32"
    ):
        read_weights(path)


def test_a_counter_that_does_not_count_is_refused(tmp_path):
    path, name = tmp_path / "x.safetensors", "layer1.0.bn.num_batches_tracked"
    path.write_bytes(encode({name: torch.ones(())}, HEADER))
    with pytest.raises(CheckpointError, match=r"num_batches_tracked is stored as torch\.float32, expected int64"):
        read_weights(path)


@pytest.mark.parametrize(
    "change",
    [
        {"rounded": {"dtype": "fp8", "largest_error": 0.1}},
        {"rounded": {"dtype": "fp16", "largest_error": -1}},
        {"rounded": {"dtype": "fp16"}},
    ],
)
def test_a_header_that_claims_an_impossible_rounding_is_refused(tmp_path, change):
    path = tmp_path / "x.safetensors"
    header = json.loads(HEADER.model_dump_json()) | change
    path.write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {"resnetcli": json.dumps(header)}))
    with pytest.raises(CheckpointError, match="damaged header"):
        read_weights(path)


def test_of_settings_that_are_paths_the_name_travels_and_places_do_not():
    config = {
        "output_dir": "/home/me/runs",
        "cache_dir": "/home/me/cache",
        "data_dir": "data",
        "source": "auto",
        "name": "mine",
        "init": "/home/me/start.ckpt",
        "recipe": "/home/me/long.toml",
        "lr": 0.1,
        "limit_train": None,
    }
    header = HEADER.model_copy(update={"config": config, "recipe": "/home/me/long.toml"})
    bare = without_places(header)
    assert bare.config == {"init": "start.ckpt", "recipe": "long.toml", "lr": 0.1, "limit_train": None}
    assert bare.recipe == "long.toml"
    assert without_places(HEADER) == HEADER
    assert without_places(bare) == bare
    of = Ancestor(name="a", sha256="0f" * 32, config=config)
    assert without_places(HEADER.model_copy(update={"lineage": (of,)})).lineage[0].config == bare.config


def test_a_header_that_no_reader_would_take_is_not_written():
    for config in ({"x": "y" * MAX_HEADER_BYTES}, {"x": [0] * MAX_ITEMS}):
        with pytest.raises(CheckpointError, match="more than a checkpoint can have"):
            encode({}, HEADER.model_copy(update={"config": config}))
