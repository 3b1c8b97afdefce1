"""Import of the bare `state_dict` files in which the field passes this network around.

Their names, for block B of layer L: `layerL.B.layer.{0,1,2}.{0,1}.*` (convolution and BatchNorm of the branch),
`layerL.B.downsize.{0,1}.*` or `layerL.B.make_equal_channel.{0,1}.*` (of the shortcut), `layer1.{0,1}.*`, `fc.*`.
Read with `weights_only=True`, always: nothing in a file is ever executed.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnetcli.checkpoints.soundness import check_sound
from resnetcli.checkpoints.vetting import Refused, vetted_copy
from resnetcli.config.base import Shortcut
from resnetcli.errors import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model")
MAX_NUMBERS = 2**26
"""More than four times the larger variant, so that a checkpoint with many classes still fits."""
_UNITS = {"0": "conv", "1": "bn"}
_STEM = re.compile(r"layer1\.([01])\.(\w+)")
_BRANCH = re.compile(r"(layer[2-4]\.\d+)\.layer\.([012])\.([01])\.(\w+)")
_SHORTCUT = re.compile(r"(layer[2-4]\.\d+)\.(downsize|make_equal_channel)\.([01])\.(\w+)")
_IDENTITY_BLOCK = re.compile(r"layer[2-4]\.[1-9]\d*\.make_equal_channel\.")
"""A block after the first of its stage has in = out; a `make_equal_channel` there is a projection on every shortcut."""


def load_foreign(path: Path) -> tuple[dict[str, Tensor], Shortcut]:
    """A foreign file as a state_dict with our names, float32 on the CPU, and its shortcut variant.

    Biases of convolutions are folded into the BatchNorm behind them (running_mean -= bias): exact in train and eval
    mode. Raises CheckpointError for whatever is not such a file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old formats are no news to a user who only imports
            content = torch.load(vetted_copy(path), map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})", _HINT) from error
    except Refused as error:
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely: it {error}", _HINT) from error
    except Exception as error:  # torch.load raises whatever the bytes provoke: KeyError, struct.error, UnpicklingError
        # Its text is not passed on: it advises to switch the safety off.
        reason = "damaged, not written by torch.save, or with other objects than tensors inside"
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely ({reason})", _HINT) from error
    state = _unwrap(content)
    if not state:
        raise CheckpointError(f"{path}: holds no state_dict of tensors", _HINT)
    _check_tensors(state, path)
    check_sound(state, path)
    renamed = {_rename(name, path): tensor for name, tensor in state.items()}
    shortcut: Shortcut = "projection" if any(map(_IDENTITY_BLOCK.match, state)) else "identity"
    return _fold_biases(renamed), shortcut


def _check_tensors(state: dict[str, Tensor], path: Path) -> None:
    """Plain numbers only, and no more of them than could be meant: a view can claim any shape."""
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or not (tensor.is_floating_point() or name.endswith("num_batches_tracked")):
            raise CheckpointError(f"{path}: {name} does not hold plain real numbers ({tensor.dtype})", _HINT)
    if (count := sum(tensor.numel() for tensor in state.values())) > MAX_NUMBERS:
        raise CheckpointError(f"{path}: claims {count:,} numbers, more than any checkpoint of this network", _HINT)


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The state_dict inside `{"state_dict": …}` and the like, without a `module.` prefix; empty if there is none."""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        return {}
    return {name.removeprefix("module."): value for name, value in content.items()}


def _rename(name: str, path: Path) -> str:
    if match := _STEM.fullmatch(name):
        unit, leaf = match.groups()
        return f"layer1.0.{_UNITS[unit]}.{leaf}"
    if match := _BRANCH.fullmatch(name):
        block, position, unit, leaf = match.groups()
        return f"{block}.branch.{position}.{_UNITS[unit]}.{leaf}"
    if match := _SHORTCUT.fullmatch(name):
        block, _, unit, leaf = match.groups()
        return f"{block}.shortcut.{_UNITS[unit]}.{leaf}"
    if name.startswith("fc."):
        return "head." + name.removeprefix("fc.")
    raise CheckpointError(
        f"{path}: {name!r} belongs to another network", "expected names such as layer2.0.layer.0.0.weight and fc.weight"
    )


def _fold_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # To float32 first: folded in half precision, logits would be off by its rounding.
    state = {n: t.detach().to(torch.float32, copy=True) if t.is_floating_point() else t for n, t in state.items()}
    for name in [name for name in state if name.endswith(".conv.bias")]:
        bias, mean = state.pop(name), name.replace(".conv.bias", ".bn.running_mean")
        if mean in state and state[mean].shape == bias.shape:
            state[mean] -= bias
    return state


_HINT = "a state_dict saved by torch.save, or a checkpoint of resnetcli, is expected"
