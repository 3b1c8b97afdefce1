"""Import of the files in which others keep weights of this network: a `state_dict` saved by torch.save or as
safetensors, in whatever a training script put around it.

Read with `weights_only=True`, always: nothing in a file is ever executed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from resnetcli.checkpoints.format import FLOATS, MAX_FILE_BYTES, read_header
from resnetcli.checkpoints.layouts import EXPECTED, described, is_projection, other_network
from resnetcli.checkpoints.soundness import check_sound
from resnetcli.checkpoints.vetting import vetted_copy
from resnetcli.checkpoints.wrappers import WeightSet, chosen, containers, joined, left_over, tensors_of, weight_sets
from resnetcli.config.base import Shortcut
from resnetcli.errors import CheckpointError
from resnetcli.pickle_guard import Refused
from resnetcli.untrusted import read_plain

MAX_NUMBERS = 2**26
"""More than four times the larger variant, so that a checkpoint with many classes still fits."""
SHOWN = 6
"""Keys of a file that a message lists."""


@dataclass(frozen=True)
class ForeignWeights:
    """Weights of a foreign file, by our names, float32 on the CPU."""

    weights: dict[str, Tensor]
    shortcut: Shortcut
    names: dict[str, str]
    """Our names to those in the file."""
    part: str | None
    """Which of several sets in the file these are; None where it has one."""
    remarks: tuple[str, ...]
    """What a user should know of the choice, and what was left out."""


def load_foreign(path: Path) -> ForeignWeights:
    """The weights of this network in a foreign file, and what was decided about them.

    Biases of convolutions are folded into the BatchNorm behind them (running_mean -= bias): exact in train and eval
    mode. Raises CheckpointError for whatever holds no such weights.
    """
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read(path)
    sets = weight_sets(content)
    if not sets:
        raise _none_found(content, path)
    taken = chosen(sets)
    inside, outside = left_over(taken, sets)
    if inside:
        shape = tuple(taken.beside[inside[0]].shape)
        raise CheckpointError(
            f"{path}: {inside[0][:100]!r} belongs to another network (shape {shape})", f"expected {EXPECTED}"
        )
    for name, tensor in taken.state.items():
        _check_plain(taken.names[name], tensor, path)
    if (count := sum(tensor.numel() for tensor in taken.state.values())) > MAX_NUMBERS:
        raise CheckpointError(f"{path}: claims {count:,} numbers, more than any checkpoint of this network", _HINT)
    check_sound({taken.names[name]: tensor for name, tensor in taken.state.items()}, path)
    remarks = []
    others = [one for one in sets if one is not taken]
    if others:
        remarks.append(_choice(taken, others, path))
    if outside:
        more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
        remarks.append(
            f"{path}: {', '.join(name[:80] for name in outside[:3])}{more} left out: no weights of this network"
        )
    shortcut: Shortcut = "projection" if is_projection((*taken.names.values(), *taken.state)) else "identity"
    part = taken.label if others else None
    return ForeignWeights(_fold_biases(taken.state), shortcut, taken.names, part, tuple(remarks))


def _read(path: Path) -> Any:
    """What torch.save has written. Raises CheckpointError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old formats are no news to a user who only imports
            return torch.load(vetted_copy(path), map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})", _HINT) from error
    except Refused as error:
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely: it {error}", _SAVE) from error
    except Exception as error:  # torch.load raises whatever the bytes provoke: KeyError, struct.error, UnpicklingError
        # Its text is not passed on: it advises to switch the safety off.
        reason = "damaged, not written by torch.save, or with other objects than tensors inside"
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely ({reason})", _SAVE) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, whoever wrote it. Raises CheckpointError."""
    read_header(path)  # refuses one that claims more than any has
    try:
        return safetensors.torch.load(read_plain(path, MAX_FILE_BYTES))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error
    except (safetensors.SafetensorError, ValueError, KeyError, MemoryError) as error:
        raise CheckpointError(f"{path}: damaged ({error})", _HINT) from error


def _check_plain(name: str, tensor: Tensor, path: Path) -> None:
    """Plain numbers only: a view can claim any shape."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or not (tensor.dtype in (*FLOATS, torch.float64) or name.endswith("num_batches_tracked")):
        raise CheckpointError(f"{path}: {name} does not hold plain real numbers ({tensor.dtype})", _HINT)


def _none_found(content: Any, path: Path) -> CheckpointError:
    """What the file holds instead."""
    found = [(place, tensors) for place, container in containers(content) if (tensors := tensors_of(container))]
    for place, tensors in found:
        if (network := other_network(tensors)) is not None:
            where = f" under {joined(place)!r}" if place else ""
            return CheckpointError(
                f"{path}: weights of a {network}{where} ({described(tensors)}), which is another network than this "
                "tool's simplified ResNet-50",
                "no setting makes them fit: train this network with resnetcli train, or take pretrained",
            )
    if found:
        listed = "; ".join(f"{joined(place) or 'at the top'}: {described(tensors)}" for place, tensors in found[:3])
        return CheckpointError(f"{path}: no weights of this network among its tensors ({listed})", _HINT)
    keys = [f"{str(key)[:80]} ({type(value).__name__})" for key, value in content.items()] if _is_dict(content) else []
    listed = ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
    held = f"its keys are {listed}" if keys else f"it is a {type(content).__name__}"
    return CheckpointError(f"{path}: holds no state_dict of tensors; {held}", _SAVE)


def _is_dict(content: Any) -> bool:
    return isinstance(content, dict) and bool(content)


def _choice(taken: WeightSet, others: list[WeightSet], path: Path) -> str:
    """Which weights were taken of several, and how to take another."""
    kinds = "averaged (EMA) and raw weights" if taken.averaged else f"{1 + len(others)} sets of weights"
    statistics = f", with the BatchNorm statistics of {taken.statistics_of}" if taken.statistics_of else ""
    other = others[0]
    whole = (
        f"safetensors.torch.load_file({path.name!r})"
        if path.suffix == ".safetensors"
        else f"torch.load({path.name!r}, weights_only=True)"
    ) + "".join(f"[{key!r}]" for key in other.keys)
    if other.beside is taken.beside:
        mine, theirs = taken.shared, other.shared
        test = f"not n.startswith({mine!r})" if mine.startswith(theirs) else f"n.startswith({theirs!r})"
        whole = f"{{n: t for n, t in {whole}.items() if {test}}}"
    return (
        f"{path}: holds {kinds}; those of {taken.label} are taken{statistics}. "
        f"For {other.label}: torch.save({whole}, 'other.pth')"
    )


def _fold_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # To float32 first: folded in half precision, logits would be off by its rounding.
    state = {n: t.detach().to(torch.float32, copy=True) if t.is_floating_point() else t for n, t in state.items()}
    for name in [name for name in state if name.endswith(".conv.bias")]:
        bias, mean = state.pop(name), name.replace(".conv.bias", ".bn.running_mean")
        if mean in state and state[mean].shape == bias.shape:
            state[mean] -= bias
    return state


_SAVE = "save only tensors, numbers and text: torch.save(model.state_dict(), PATH); of arguments a dict: vars(args)"
_HINT = f"save the network's weights alone: torch.save(model.state_dict(), PATH), with {EXPECTED}"
