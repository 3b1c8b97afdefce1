"""The weights that come with the package: `resnetcli/weights/NAME.safetensors`.

`NAME.md` beside it is the model card, `NAME.json` what the card was made of: digest and size of the file, and what was
measured with it. examples/model_card.py writes all three.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from resnetcli.checkpoints.format import FileEntry, ModelHeader, Part, read_json, read_weights
from resnetcli.config.base import PRETRAINED
from resnetcli.errors import CheckpointError
from resnetcli.results.checkpoints import Calibration, earned

FOLDER = Path(__file__).parent.parent / "weights"
NAMES = (PRETRAINED,)


class Packaged(Part):
    """What is known of packaged weights beside their header, which was written before they were measured."""

    schema_version: int = 1
    file: FileEntry
    metrics: dict[str, float]
    """Added to those of the header: `test_top1` and so on."""
    calibration: Calibration | None = None
    """The temperature of the header, fitted before there was a rule for it, with what validation images held out of
    such a fit gain. Where that is not enough, the weights are opened without it."""
    card: dict[str, object]
    """Everything else that the model card says."""


def packaged_file(name: str) -> Path:
    """Where the packaged weights `name` lie."""
    return FOLDER / f"{name}.safetensors"


def read_packaged(name: str) -> tuple[dict[str, Tensor], ModelHeader]:
    """Weights and header of packaged weights, held against their digest. Raises CheckpointError."""
    try:
        about = read_about(name)
        weights, header = read_weights(packaged_file(name), about.file)
    except CheckpointError as error:
        raise CheckpointError(f"the packaged weights are damaged: {error.message}", _HINT) from error
    changes: dict[str, object] = {"metrics": header.metrics | about.metrics}
    if about.calibration is not None:
        changes["calibration"] = about.calibration if earned(about.calibration) else None
    return weights, header.model_copy(update=changes)


def read_about(name: str) -> Packaged:
    """What NAME.json says. Raises CheckpointError."""
    path = FOLDER / f"{name}.json"
    try:
        return read_json(path, Packaged)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error


_HINT = "install resnetcli again, or name another checkpoint"
