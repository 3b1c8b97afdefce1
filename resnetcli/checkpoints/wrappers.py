"""What training scripts put around and in front of the weights of this network.

Around: `{"state_dict": …}`, `{"net": …, "acc": …, "epoch": …}`, lists, any nesting of them. In front: `module.`,
`_orig_mod.`, `model.` and whatever else all names of one network share. A file may hold the weights more than once, as
training left them and averaged (EMA, SWA): the averaged ones are taken, for their accuracy is what such a training
reports.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from resnetcli.checkpoints.layouts import our_name, without_wrappers

MAX_DEPTH = 8
"""Of containers in containers; Lightning's optimiser states have five."""
PREFERRED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")
"""Of several sets of which none is averaged, the one by the first of these names."""
COUNTERS = frozenset(("n_averaged", "num_averaged", "num_updates", "updates", "decay", "step", "initted"))
"""What averages keep beside the weights."""

_AVERAGED = frozenset(("ema", "swa", "averaged", "average", "avg", "shadow", "teacher"))
_RAW = frozenset(("online", "current", "student", "raw"))
_BESIDE = frozenset(("criterion", "loss", "metric", "metrics", "accuracy", "acc"))
_WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")
_BUFFER = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")


@dataclass
class WeightSet:
    """Weights of this network inside a file."""

    keys: tuple[object, ...]
    """Of the containers around them, from the outermost."""
    prefix: str
    """In front of all names, without what wraps single modules."""
    beside: Mapping[str, Tensor]
    """All tensors of the same container."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """By our names."""
    names: dict[str, str] = field(default_factory=dict)
    """Our names to those in the file."""
    averaged: bool | None = None
    """None: nothing says so."""

    statistics_of: str = ""
    """The set whose statistics of BatchNorm were added."""

    @property
    def shared(self) -> str:
        """What all of its names in the file begin with."""
        first, last = min(self.names.values()), max(self.names.values())
        equal = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
        return first[: first.rfind(".", 0, equal) + 1]

    @property
    def label(self) -> str:
        """Where in the file, to be read: `model`, `state_dict/ema_model`."""
        return joined((*self.keys, self.prefix)) or "the names without prefix"


def joined(keys: tuple[object, ...]) -> str:
    """Keys that lead to a container, as one word."""
    return "/".join(filter(None, map(str, keys)))[:120]


def containers(content: object) -> Iterator[tuple[tuple[object, ...], dict[object, object]]]:
    """Every dict in `content`, with the keys that lead to it; each object once."""
    seen: set[int] = set()
    waiting: deque[tuple[tuple[object, ...], object]] = deque([((), content)])
    while waiting:
        keys, value = waiting.popleft()
        if not isinstance(value, dict | list | tuple) or id(value) in seen or len(keys) > MAX_DEPTH:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield keys, value
        items = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [((*keys, key), inner) for key, inner in items if isinstance(inner, dict | list | tuple)]


def tensors_of(container: Mapping[object, object]) -> dict[str, Tensor]:
    """The tensors among its values that have a name."""
    return {n: value for n, value in container.items() if isinstance(n, str) and isinstance(value, Tensor)}


def weight_sets(content: object) -> list[WeightSet]:
    """All sets of weights of this network in `content`, in the order of the file."""
    found: list[WeightSet] = []
    for keys, container in containers(content):
        tensors = tensors_of(container)
        groups: dict[str, WeightSet] = {}
        for name, tensor in tensors.items():
            if (known := our_name(name)) is not None:
                group = groups.setdefault(known[0], WeightSet(keys, known[0], tensors))
                if known[1] not in group.state:
                    group.state[known[1]], group.names[known[1]] = tensor, name
        whole = [group for group in groups.values() if any(name.endswith(".conv.weight") for name in group.state)]
        for group in whole:
            group.averaged = _is_averaged((*map(str, keys), *group.prefix.split(".")))
            if group.averaged is None and any(name.endswith("n_averaged") for name in tensors) and len(whole) == 1:
                group.averaged = True
        found += whole
    found += _without_names(content, found)
    if any(one.averaged is False for one in found) and not any(one.averaged for one in found):
        for one in found:  # Lightning's WeightAveraging: `current_model_state` beside the averaged `state_dict`
            one.averaged = one.averaged is None
    return found


def _without_names(content: object, found: list[WeightSet]) -> list[WeightSet]:
    """The averages that torch-ema and diffusers keep as a list, in the order of the parameters: taken for those of a
    set in the same file only where every shape agrees."""
    averages: list[WeightSet] = []
    for keys, container in containers(content):
        values = container.get("shadow_params")
        listed = [value for value in values if isinstance(value, Tensor)] if isinstance(values, list) else []
        for one in found if listed else []:
            names = [name for name in one.state if not _BUFFER.search(name)]
            if [tensor.shape for tensor in listed] == [one.state[name].shape for name in names]:
                place = (*keys, "shadow_params")
                state = dict(zip(names, listed, strict=True))
                numbers = {name: f"shadow_params[{i}]" for i, name in enumerate(names)}
                averages.append(WeightSet(place, "", {}, state, numbers, averaged=True))
                break
    return averages


def _is_averaged(parts: tuple[str, ...]) -> bool | None:
    for part in reversed(parts):
        words = {word.lower() for word in _WORDS.split(part)}
        if words & _RAW:
            return False
        if words & _AVERAGED:
            return True
    return None


def chosen(sets: list[WeightSet]) -> WeightSet:
    """The one of `sets` to be taken: averaged before raw, then by PREFERRED, then by the order of the file.

    Averages of nothing but parameters get the statistics of BatchNorm from the raw weights, as the scripts that keep
    such averages evaluate them; incomplete ones are no choice.
    """
    most = max(sets, key=lambda one: len(one.state))
    whole = [one for one in sets if all(map(_BUFFER.search, most.state.keys() - one.state.keys()))]
    pool = [one for one in whole if one.averaged] or whole
    best = min(pool, key=_preference)
    for name in most.state.keys() - best.state.keys():
        best.state[name], best.names[name] = most.state[name], most.names[name]
        best.statistics_of = most.label
    return best


def _preference(one: WeightSet) -> int:
    last = str(one.keys[-1]) if one.keys else ""
    return PREFERRED.index(last) if last in PREFERRED else len(PREFERRED)


def left_over(taken: WeightSet, sets: list[WeightSet]) -> tuple[list[str], list[str]]:
    """Names beside the weights `taken`: those that belong to the network and should not be there, and those that can
    be left out: counters, other modules of a training, other sets."""
    ours = {name for one in sets if one.beside is taken.beside for name in one.names.values()}
    inside: list[str] = []
    outside: list[str] = []
    shared = taken.prefix + "." if taken.prefix else ""
    for name, tensor in taken.beside.items():
        if name in ours:
            continue
        last, first = name.rsplit(".", 1)[-1], {word.lower() for word in _WORDS.split(name.split(".")[0])}
        counts = tensor.numel() <= 1 and (last in COUNTERS or not tensor.is_floating_point())
        unrelated = not without_wrappers(name).startswith(shared) or (not shared and bool(first & _BESIDE))
        (outside if counts or unrelated else inside).append(name)
    return inside, outside
