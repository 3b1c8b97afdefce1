"""A checkpoint in any of its forms to a network that is ready to run."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from resnetcli.checkpoints.format import ModelHeader, Normalization
from resnetcli.checkpoints.reading import Checkpoint, check_fit, open_checkpoint
from resnetcli.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD
from resnetcli.engine.runtime import Runtime
from resnetcli.errors import CheckpointError
from resnetcli.events import Notice, OnEvent, Phase
from resnetcli.models.inference import InferenceNetwork
from resnetcli.models.resnet import ResNet
from resnetcli.results.checkpoints import Ancestor, at_bound

MEAN = (CIFAR10_MEAN[0] / 255, CIFAR10_MEAN[1] / 255, CIFAR10_MEAN[2] / 255)
STD = (CIFAR10_STD[0] / 255, CIFAR10_STD[1] / 255, CIFAR10_STD[2] / 255)


def open_network(target: str | Path, on_event: OnEvent) -> tuple[Checkpoint, ResNet]:
    """Checkpoint and network (float32 on the CPU, channels_last, in training mode). Raises CheckpointError."""
    checkpoint = open_any(target, on_event)
    return checkpoint, build(checkpoint)


def open_any(target: str | Path, on_event: OnEvent) -> Checkpoint:
    """A checkpoint in any of its forms; says what had to be assumed of a foreign one. Raises CheckpointError."""
    on_event(Phase(f"opening {target}"))
    checkpoint = open_checkpoint(target, Normalization(mean=MEAN, std=STD))
    if checkpoint.kind == "packaged" and os.path.lexists(target):
        text = f"{target} is the packaged weights; what lies here under this name is ./{target}"
        on_event(Notice(text, warning=True))
    for reason in checkpoint.passed_over:
        on_event(Notice(f"{reason}; {checkpoint.path} is used in its place", warning=True))
    if checkpoint.kind == "foreign":
        variant = checkpoint.header.architecture.shortcut
        assumed = "CIFAR-10 classes and normalisation assumed"
        on_event(Notice(f"{target}: foreign state_dict, shortcut={variant}; {assumed}"))
    for remark in checkpoint.remarks:
        on_event(Notice(remark))
    return checkpoint


def build(checkpoint: Checkpoint) -> ResNet:
    """The network that the header describes, with the checkpoint's weights. Nothing is initialised first."""
    architecture = checkpoint.header.architecture
    names, classes = len(checkpoint.header.class_names), architecture.num_classes
    if names != classes:
        raise CheckpointError(f"{checkpoint.path}: its header has {names} class names for {classes} classes")
    with torch.device("meta"):
        network = ResNet(architecture.num_classes, architecture.shortcut)
    network.load_state_dict(check_fit(checkpoint, network.state_dict()), assign=True)
    return channels_last(network.requires_grad_())


def check_finite(logits: Tensor, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where a network of finite weights answers with what is no number: its training diverged,
    and anything that is reported of such answers misleads."""
    bad = int((~logits.isfinite()).any(1).sum())
    if bad:
        raise CheckpointError(
            f"{checkpoint.label}: its answers are not numbers, for {bad} of {len(logits)} images",
            "its training diverged: train again with a lower --lr",
        )


def validation_unseen(header: ModelHeader, data: str, val_fraction: float | None, split_seed: int | None) -> bool:
    """Whether weights with this header are known not to have been trained on the validation images that these three
    name: neither they, nor any that their training started from.

    A smaller split lies within a larger one of the same seed. That weights started from nothing must be written down;
    and `cifar10-mini` is a part of CIFAR-10, so that nothing is known of one from a run on the other.
    """
    if val_fraction is None or split_seed is None:
        return False
    generations: list[ModelHeader | Ancestor] = [header, *header.lineage]
    first = generations[-1].config
    return ("init" in first and first["init"] is None) and all(
        (of.data, of.split_seed) == (data, split_seed) and (of.val_fraction or 0) >= val_fraction for of in generations
    )


def temperature_of(header: ModelHeader, calibrate: bool) -> float | None:
    """What logits are to be divided by; None: nothing is known, it is not wanted, or it is the bound of its fit, which
    earlier versions stored."""
    known = header.calibration
    return known.temperature if calibrate and known is not None and not at_bound(known.temperature) else None


def for_inference(network: ResNet, runtime: Runtime) -> InferenceNetwork:
    """A copy of the network as it is now, on the device and in the precision of `runtime`."""
    return InferenceNetwork(network, runtime.dtype).to(runtime.device)


def channels_last(network: ResNet) -> ResNet:
    """Pixels beside their channels: what the convolutions of both CPUs and GPUs are fastest with."""
    converted: nn.Module = network.to(memory_format=torch.channels_last)
    assert isinstance(converted, ResNet)
    return converted
