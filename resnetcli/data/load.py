"""A data set by its name."""

from __future__ import annotations

from resnetcli.config.base import DataOptions
from resnetcli.data import cifar10, mini, sources
from resnetcli.data.cifar10 import Dataset
from resnetcli.errors import DataError
from resnetcli.events import OnEvent, Phase


def load_dataset(config: DataOptions, on_event: OnEvent) -> Dataset:
    """The data set `config.data`, fetched first where need be.

    Raises DataError where it cannot be had or is damaged, and StorageError where it cannot be kept.
    """
    on_event(Phase(f"loading {config.data}"))
    if config.data == "cifar10-mini":
        return mini.load()
    path = cifar10.cache_path(config.cache_dir)
    if config.source in ("auto", "cache") and path.exists():
        try:
            return cifar10.load(path)  # checks the digests while it converts; `fetch` first would read it all twice
        except DataError:
            pass  # `fetch` says what is wrong with it and, with source "auto", replaces it
    path, _ = sources.fetch(config, on_event)
    return cifar10.load(path)
