"""`inspect`: what the network is made of, and where a checkpoint came from."""

from __future__ import annotations

from resnetcli.checkpoints.reading import describe_open
from resnetcli.config.base import CLASS_NAMES, IMAGE_SIZE, PRETRAINED
from resnetcli.config.commands import InspectConfig
from resnetcli.events import OnEvent
from resnetcli.models.resnet import ResNet
from resnetcli.models.summary import FLOAT_BYTES, summarize
from resnetcli.results.inspect import InspectResult
from resnetcli.services.networks import open_network


def inspect(config: InspectConfig, *, on_event: OnEvent) -> InspectResult:
    """Describes a checkpoint and its network; if only a variant is named, that network. Raises CheckpointError."""
    info, size = None, IMAGE_SIZE
    if config.checkpoint is None and config.shortcut is not None:
        network = ResNet(len(CLASS_NAMES), config.shortcut)
    else:
        checkpoint, network = open_network(config.checkpoint or PRETRAINED, on_event)
        info, size = describe_open(checkpoint), checkpoint.header.architecture.image_size
    shape = (config.batch_size, 3, size, size)
    layers = summarize(network, shape)
    total = layers[0]
    convolutions = [layer for layer in layers if layer.kind.startswith("Conv2d")]
    return InspectResult(
        architecture="simplified ResNet-50 for 32x32 images",
        shortcut=network.shortcut,
        input_shape=shape,
        layers=layers,
        convolutions=len(convolutions),
        parameters=total.parameters,
        trainable_parameters=total.trainable,
        buffer_elements=total.buffers,
        macs=total.macs,
        conv_macs=sum(layer.macs for layer in convolutions),
        flops=2 * total.macs,
        parameter_bytes=FLOAT_BYTES * total.parameters,
        activation_bytes=total.activation_bytes,
        checkpoint=info,
    )
