"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers side by side, each with a thread for every core, wait for each other: on two cores two workers of one
    # thread took 157 s for what they needed 178 s for with two. Tests of threads set them by themselves.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import resnetcli  # noqa: F401  # before torch: it says how OpenMP's threads wait

# isort: split
import pytest
import torch

from resnetcli.config.base import DataOptions
from resnetcli.data.cifar10 import Dataset
from resnetcli.data.load import load_dataset
from resnetcli.events import ignore


@pytest.fixture(scope="session")
def cifar10() -> Dataset:
    """All of CIFAR-10, from the user's cache; fetched into it on first use."""
    return load_dataset(DataOptions(), ignore)


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    """A command sets them for its whole process, which here has other tests to run."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)
