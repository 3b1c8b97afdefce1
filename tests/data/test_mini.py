from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from resnetcli.config.base import DataOptions
from resnetcli.data import mini
from resnetcli.data.cifar10 import Dataset
from resnetcli.data.load import load_dataset
from resnetcli.errors import DataError
from resnetcli.events import ignore


def test_the_packaged_sample_has_200_training_and_50_test_images_a_class() -> None:
    dataset = load_dataset(DataOptions(data="cifar10-mini"), ignore)
    assert dataset.name == "cifar10-mini"
    assert torch.bincount(dataset.train.labels).tolist() == [200] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [50] * 10
    assert dataset.train.images.shape == (2000, 3, 32, 32)
    assert dataset.train.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.cifar10
def test_the_packaged_sample_is_what_draw_takes_from_cifar10(cifar10: Dataset) -> None:
    packaged = mini.read()
    for split, drawn in mini.draw(cifar10).items():
        assert np.array_equal(packaged[split].indices, drawn.indices)
        assert np.array_equal(packaged[split].labels, drawn.labels)
        assert np.array_equal(packaged[split].pixels, drawn.pixels)


def test_an_altered_packaged_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = mini.read()
    draws["train"].pixels[5, 3, 3, 0] ^= 1
    mini.write(draws, tmp_path)
    right = (mini.FOLDER / "mini.json").read_bytes()
    (tmp_path / "mini.json").write_bytes(right)
    monkeypatch.setattr(mini, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="cifar10-mini is damaged"):
        mini.load()
