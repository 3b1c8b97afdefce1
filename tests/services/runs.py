"""Short real runs on the packaged sample, shared by tests of several services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnetcli.config.train import TrainConfig
from resnetcli.events import ignore
from resnetcli.interrupts import StopRequest
from resnetcli.results.train import TrainResult
from resnetcli.services.train import train

SHORT: dict[str, Any] = {
    "data": "cifar10-mini",
    "limit_train": 64,
    "batch_size": 16,
    "epochs": 2,
    "optimizer": "sgd",
    "lr": 0.02,
    "lookahead": 3,
    "branch_scale": 0.3,
    "save_every": 1e9,
    "precision": "fp32",
}


def short_config(folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{**SHORT, "output_dir": folder, **changes})


def short_run(folder: Path, on_event: Any = ignore, **changes: Any) -> TrainResult:
    return train(short_config(folder, **changes), stop=StopRequest(), on_event=on_event)
