"""Whether the numbers of a checkpoint can be those of a network: what every reader asks before it hands them on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from resnetcli.errors import CheckpointError

NOT_NEGATIVE = ("running_var", "exp_avg_sq", "/step")
"""What the names of variances, of Adam's second moments and of step counters end in."""


def check_sound(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError where a float of `tensors` is not finite, or negative where it cannot be: used in silence
    it would give answers that look like any other. Names the first such tensor by the name that it has there."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = (bound.item() for bound in tensor.detach().aminmax())  # NaN comes out of both
        if not (math.isfinite(low) and math.isfinite(high)):
            count = int((~tensor.isfinite()).sum())
            value = next(bound for bound in (low, high) if not math.isfinite(bound))
            raise CheckpointError(f"{path}: {name} holds {value} ({count:,} of its {tensor.numel():,} numbers)", _HINT)
        if low < 0 and name.endswith(NOT_NEGATIVE):
            raise CheckpointError(f"{path}: {name} holds {low:g}, and cannot be negative", _HINT)


_HINT = "the file is damaged, or the training that wrote it diverged: use another checkpoint"
