"""What history.png says of a run besides its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnetcli.config.train import TrainConfig
from resnetcli.services.history import curve_notes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ()),
        ({"label_smoothing": 0.2}, ("label smoothing 0.2",)),
        ({"cutmix": 1.0}, ("CutMix",)),
        ({"cutmix": 1.0, "mix_share": 0.0}, ()),
        (
            {"label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "mix_share": 0.5},
            ("label smoothing 0.1", "Mixup or CutMix in 50 % of the steps"),
        ),
    ],
)
def test_what_the_training_loss_is_of(settings: dict[str, Any], said: tuple[str, ...]) -> None:
    assert curve_notes(Path("runs/a"), TrainConfig(**settings)).train_loss_with == said


def test_the_name_of_the_run_and_its_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(epochs=10, start_size=24, start_size_until=0.3)
    notes = curve_notes(Path("runs/fast-1"), config)
    assert (notes.run, notes.start_size, notes.small_epochs, notes.size) == ("fast-1", 24, 3, 32)
    assert curve_notes(Path("a"), TrainConfig()).small_epochs == 0
    monkeypatch.chdir(tmp_path)
    assert curve_notes(Path(), config).run == tmp_path.name
