"""One file that can be copied anywhere: weights, rounded if asked for, and a header without what is only true here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from resnetcli.checkpoints.format import ModelHeader, Rounding
from resnetcli.config.base import StoredPrecision
from resnetcli.errors import CheckpointError
from resnetcli.results.checkpoints import Setting

DTYPES: dict[StoredPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
LOCAL = ("output_dir", "name", "data_dir", "cache_dir", "source")
"""Settings that say where things lie on the machine of the training; none of them has a say in the weights."""
PATHS = ("recipe", "init")
"""Settings that may be paths, of which only the name travels."""


def rounded(
    weights: dict[str, Tensor], header: ModelHeader, dtype: StoredPrecision
) -> tuple[dict[str, Tensor], ModelHeader]:
    """Convolutions and head in `dtype`, with a header that says so and by how much a weight moved.

    What has one dimension stays float32: it is BatchNorm, whose variances may leave the range of fp16, and less than
    1 % of the bytes. Raises CheckpointError where a weight has no place in the range of `dtype`.
    """
    if dtype == "fp32":
        return weights, header
    small = {name: t.to(DTYPES[dtype]) if t.ndim > 1 else t for name, t in weights.items()}
    errors = {name: (small[name].float() - t).abs().max().item() for name, t in weights.items() if t.ndim > 1}
    for name, error in errors.items():
        if not math.isfinite(error):
            largest, limit = weights[name].abs().max().item(), torch.finfo(DTYPES[dtype]).max
            raise CheckpointError(f"{name} holds {largest:g}, and {dtype} ends at {limit:g}", "store it as fp32")
    largest_error = max(errors.values(), default=0.0)
    before = header.rounded
    if before is not None:
        if not largest_error:  # it was of this precision already
            return small, header
        largest_error += before.largest_error
    return small, header.model_copy(update={"rounded": Rounding(dtype=dtype, largest_error=largest_error)})


def without_places(header: ModelHeader) -> ModelHeader:
    """The header without paths of the machine that it was written on."""
    lineage = tuple(of.model_copy(update={"config": settings(of.config)}) for of in header.lineage)
    update = {"config": _travelling(header.config), "recipe": _file_name(header.recipe), "lineage": lineage}
    return header.model_copy(update=update)


def settings(config: Mapping[str, object]) -> dict[str, Setting]:
    """The settings, and nothing else that may stand among them, without paths of a machine."""
    return {
        name: value
        for name, value in _travelling(config).items()
        if value is None or isinstance(value, bool | int | float | str)
    }


def _travelling(config: Mapping[str, object]) -> dict[str, object]:
    return {name: _file_name(value) if name in PATHS else value for name, value in config.items() if name not in LOCAL}


def _file_name(value: object) -> object:
    return Path(value).name if isinstance(value, str) else value
