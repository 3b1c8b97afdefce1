"""What a run has saved of numbers that no training leaves: passed over where there is another, refused where not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetcli.checkpoints.format import HEADER_KEY, ModelHeader, encode, read_own_header, read_weights
from resnetcli.checkpoints.manager import CheckpointManager, newest_intact, read_best, verify_folder
from resnetcli.errors import CheckpointError
from tests.checkpoints.samples import snapshot

TRAINER = {
    "optimizer/w/exp_avg_sq": torch.ones(3),
    "optimizer/w/exp_avg": -torch.ones(3),
    "optimizer/w/step": torch.ones(()),
    "average/bn.running_var": torch.ones(3),
}


def saved(run: Path, step: int, accuracy: float, *, model: float = 1.0, last: str = "", value: float = 0.0) -> Path:
    """A checkpoint with one weight of value `model`, and one number `value` in the state that ends in `last`."""
    good = snapshot(step, accuracy)
    weights = {"w": torch.tensor([1.0, model])}
    state = {name: tensor.clone() for name, tensor in TRAINER.items()}
    if last:
        (name,) = (name for name in state if name.endswith((f"/{last}", f".{last}")))
        state[name].view(-1)[0] = value
    return CheckpointManager(run, 3).save(replace(good, model=weights, trainer=state))


def test_weights_that_are_no_numbers_are_passed_over_by_all_that_choose(tmp_path: Path) -> None:
    older, newer = saved(tmp_path, 1, 0.5), saved(tmp_path, 2, 0.9, model=math.nan)
    with pytest.raises(CheckpointError, match=r"step-0000002.*: w holds nan \(1 of its 2 numbers\)"):
        verify_folder(newer)
    folder, _, _, passed_over = read_best(tmp_path)
    assert folder == older
    assert "w holds nan" in passed_over[0]
    assert newest_intact(tmp_path)[0] == older
    assert "w holds nan" in CheckpointManager(tmp_path, 3).set_damaged_aside()[0]


@pytest.mark.parametrize(
    ("last", "value", "said"),
    [
        ("exp_avg", math.inf, "exp_avg holds inf"),
        ("exp_avg_sq", -1e-9, "exp_avg_sq holds -1e-09, and cannot be negative"),
        ("exp_avg_sq", math.nan, "exp_avg_sq holds nan"),
        ("step", -1.0, "step holds -1, and cannot be negative"),
        ("running_var", -1.0, "running_var holds -1, and cannot be negative"),
    ],
)
def test_a_state_that_no_optimiser_has_is_not_resumed_and_its_weights_are_still_used(
    last: str, value: float, said: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path, 1, 0.5, last=last, value=value)
    with pytest.raises(CheckpointError, match=f"nothing to resume .*{said}"):
        newest_intact(tmp_path)
    assert read_best(tmp_path)[0] == folder


def test_a_state_of_negative_momenta_is_resumed(tmp_path: Path) -> None:
    folder = saved(tmp_path, 1, 0.5)
    assert newest_intact(tmp_path)[0] == folder


def test_a_key_that_is_there_twice_is_damage_wherever_it_stands(tmp_path: Path) -> None:
    path, header = tmp_path / "x.safetensors", snapshot(1).header
    data = encode({"w": torch.ones(2)}, header)
    text = header.model_dump_json()
    doubled = text[:-1] + ',"step":7}'
    entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata, tensor = json.dumps({HEADER_KEY: doubled}), json.dumps(entries["w"])
    for head, key in (
        (f'{{"__metadata__":{metadata},"w":{tensor}}}', "step"),
        (f'{{"__metadata__":{json.dumps(entries["__metadata__"])},"w":{tensor},"w":{tensor}}}', "w"),
    ):
        path.write_bytes(len(head).to_bytes(8, "little") + head.encode() + bytes(8))
        for read in (read_weights, lambda path: read_own_header(path, ModelHeader)):
            with pytest.raises(CheckpointError, match=f"the key '{key}' is there twice"):
                read(path)
