"""A network, layer by layer."""

from __future__ import annotations

from resnetcli.results.base import SCHEMA_VERSION, Result
from resnetcli.results.checkpoints import CheckpointInfo


class LayerRow(Result):
    """One node of the layer tree. Parameters and MACs include everything below it."""

    path: str
    kind: str
    depth: int
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    buffers: int
    macs: int
    """Multiply-accumulates of convolutions and linear layers for one image."""
    activation_bytes: int
    """float32 bytes of the outputs of the leaves, for the whole batch."""


class InspectResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "inspect"
    architecture: str
    shortcut: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]
    convolutions: int
    parameters: int
    trainable_parameters: int
    buffer_elements: int
    macs: int
    conv_macs: int
    flops: int
    """2 x MACs."""
    parameter_bytes: int
    activation_bytes: int
    checkpoint: CheckpointInfo | None = None
