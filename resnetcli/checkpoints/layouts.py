"""The names that this network's weights have in files of others, and which other network a file may hold.

For block B of layer L the field writes `layerL.B.layer.{0,1,2}.{0,1}.*` (convolution and BatchNorm of the branch),
`layerL.B.downsize.{0,1}.*` or `layerL.B.make_equal_channel.{0,1}.*` (of the shortcut), `layer1.{0,1}.*`, `fc.*`. Who
trains our own module elsewhere saves our names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

EXPECTED = (
    "names such as layer2.0.branch.0.conv.weight, which resnetcli inspect shows, or layer2.0.layer.0.0.weight and "
    "fc.weight, as the public implementations of this network have them"
)
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_ddp_module")
)
"""Parts of names that DataParallel, torch.compile, FSDP, activation checkpointing and Lightning's Fabric put in front
of a module, also of one inside of another; the network itself has none of them."""
MAX_NAME = 500
"""Letters of a name that is looked at."""

_UNITS = {"0": "conv", "1": "bn"}
_NAME = re.compile(
    r"(?:^|\.)(?:"
    r"layer1\.(?P<stem>[01])\.(?P<stem_leaf>\w+)"
    r"|(?P<branch>layer[2-4]\.\d{1,3})\.layer\.(?P<position>[012])\.(?P<branch_unit>[01])\.(?P<branch_leaf>\w+)"
    r"|(?P<short>layer[2-4]\.\d{1,3})\.(?:downsize|make_equal_channel)\.(?P<short_unit>[01])\.(?P<short_leaf>\w+)"
    r"|(?P<ours>(?:layer1\.0|layer[2-4]\.\d{1,3}\.(?:branch\.[012]|shortcut))\.(?:conv|bn)\.\w+)"
    r"|(?:fc|head)\.(?P<head_leaf>\w+)"
    r")$"
)
_PROJECTION = re.compile(r"layer(2\.1|3\.[12]|4\.[1-5])\.shortcut\.|layer[2-4]\.[1-9]\d*\.make_equal_channel\.")
"""On these blocks in = out and nothing is halved: what lies there is a projection on every shortcut."""

_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (True, (3, 4, 6, 3)): "ResNet-50",
    (True, (3, 4, 23, 3)): "ResNet-101",
    (True, (3, 8, 36, 3)): "ResNet-152",
    (False, (2, 2, 2, 2)): "ResNet-18",
    (False, (3, 4, 6, 3)): "ResNet-34",
}
_BLOCK = re.compile(r"(?:^|\.)layer([1-4])\.(\d{1,3})\.(conv[123]|downsample\.|shortcut\.)")


def our_name(name: str) -> tuple[str, str] | None:
    """A name in a file as (what stands in front, our name for it); None for what this network does not have."""
    if len(name) > MAX_NAME:
        return None
    plain = without_wrappers(name)
    match = _NAME.search(plain)
    if match is None:
        return None
    prefix, found = plain[: match.start()], match.groupdict()
    if found["stem"]:
        return prefix, f"layer1.0.{_UNITS[found['stem']]}.{found['stem_leaf']}"
    if found["branch"]:
        return prefix, (
            f"{found['branch']}.branch.{found['position']}.{_UNITS[found['branch_unit']]}.{found['branch_leaf']}"
        )
    if found["short"]:
        return prefix, f"{found['short']}.shortcut.{_UNITS[found['short_unit']]}.{found['short_leaf']}"
    return prefix, found["ours"] or f"head.{found['head_leaf']}"


def without_wrappers(name: str) -> str:
    """A name without the parts that WRAPPERS lists, wherever they stand."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def is_projection(names: Iterable[str]) -> bool:
    """Whether weights of these names, theirs or ours, have a 1x1 convolution on every shortcut."""
    return any(map(_PROJECTION.search, names))


def other_network(state: Mapping[str, Tensor]) -> str | None:
    """Which well-known network has weights of these names; None where none is known."""
    blocks: dict[str, set[str]] = {}
    parts: set[str] = set()
    for name in state:
        if len(name) <= MAX_NAME and (match := _BLOCK.search(name)):
            blocks.setdefault(match[1], set()).add(match[2])
            parts.add(match[3])
    if "conv1" in parts:
        counts = tuple(len(blocks.get(stage, ())) for stage in "1234")
        middle = next((t.shape[:2] for n, t in state.items() if n.endswith("layer1.0.conv2.weight")), None)
        # ResNeXt and wide ResNets have the same names.
        kind = _RESNETS.get(("conv3" in parts, counts), "ResNet") if middle == (64, 64) else "ResNet"
        return f"{kind} as pytorch-cifar has it" if "shortcut." in parts else f"torchvision or timm {kind}"
    if any(name.endswith("embedder.embedder.convolution.weight") for name in state):
        return "Hugging Face ResNet"
    if any(name.endswith("stages.0.blocks.0.conv1.weight") for name in state):
        return "timm ResNet (version 2)"
    return None


def described(state: Mapping[str, Tensor], most: int = 3) -> str:
    """`161 tensors: conv1.weight (64, 3, 7, 7), …`"""
    shown = [f"{name[:80]} {tuple(tensor.shape)}" for name, tensor in list(state.items())[:most]]
    more = ", …" if len(state) > most else ""
    return f"{len(state)} tensor{'s' if len(state) != 1 else ''}: {', '.join(shown)}{more}"
