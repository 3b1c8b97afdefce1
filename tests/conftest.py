"""Fixtures that several rooms use."""

from __future__ import annotations

import pytest

from resnetcli.config.base import DataOptions
from resnetcli.data.cifar10 import Dataset
from resnetcli.data.load import load_dataset
from resnetcli.events import ignore


@pytest.fixture(scope="session")
def cifar10() -> Dataset:
    """All of CIFAR-10, from the user's cache; fetched into it on first use."""
    return load_dataset(DataOptions(), ignore)
