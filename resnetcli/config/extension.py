"""That a run goes on to another number of epochs than it was planned for, and by which learning rates."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from resnetcli.config.base import MAX_EPOCHS, Config, option

Policy = Literal["stretch", "restart", "constant"]
MAX_EXTENSIONS = 100
"""Each is written into config.json, which `--config` reads up to 64 KiB."""


class Extension(BaseModel):
    """From a position of a run on, another plan holds. Stored with the settings of the run, so that they still say
    which learning rate each of its steps has, those before this position too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: int = Field(ge=0, le=MAX_EPOCHS)
    """Epochs that were done; with `step`, the steps done of the next one, it is the position."""
    step: int = Field(ge=0, le=2**31)
    epochs: int = Field(ge=1, le=MAX_EPOCHS)
    """What had been planned until then."""
    policy: Policy


class ExtendConfig(Config):
    """What `train --resume RUN` takes beside what may always change."""

    epochs: int = option(1, "Epochs of the whole run.", panel="Run", unit="epochs", ge=1, le=MAX_EPOCHS)
    extend: Policy = option("stretch", "Learning rates from here on.", panel="Run")
