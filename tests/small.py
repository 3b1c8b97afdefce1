"""A network of three blocks in place of thirteen, for tests whose property is about everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from resnetcli.models import inference, resnet, work

STAGES = (("layer2", 1, 64, 4, 8, True), ("layer3", 1, 8, 4, 8, True), ("layer4", 1, 8, 4, 16, False))


@contextmanager
def small_network() -> Iterator[None]:
    """While this is open, every network that is built or read is the small one."""
    with (
        mock.patch.object(resnet, "STAGES", STAGES),
        mock.patch.object(inference, "STAGES", STAGES),
        mock.patch.object(work, "STAGES", STAGES),
    ):
        yield
