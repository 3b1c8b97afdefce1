"""From a config to the parts of a run, wired together: network, data, batches, trainer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from torch import Tensor

from resnetcli.checkpoints.format import Architecture, ModelHeader, Normalization
from resnetcli.checkpoints.reading import lineage_from
from resnetcli.config.train import TrainConfig
from resnetcli.data.appearance import learn_appearance
from resnetcli.data.batches import EvalBatches, Normalizer, TrainBatches
from resnetcli.data.cifar10 import Dataset
from resnetcli.data.load import load_dataset
from resnetcli.data.split import stratified_limit, stratified_split
from resnetcli.engine.evaluate import inference_rows
from resnetcli.engine.loop import Trainer
from resnetcli.engine.runtime import Runtime, seed_everything, versions
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import Notice, OnEvent, Phase
from resnetcli.models.kernels import accelerate
from resnetcli.models.rescale import rescale_for_muon
from resnetcli.models.resnet import ResNet
from resnetcli.results.checkpoints import Ancestor
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import MEAN, STD, build, channels_last, open_any, validation_unseen


@dataclass(frozen=True, slots=True)
class Setup:
    """All parts of a run. `val` holds the images and the labels of the validation split, which may be empty; `began` is
    the reading of the monotonic clock when the data were at hand."""

    config: TrainConfig
    runtime: Runtime
    dataset: Dataset
    network: ResNet
    trainer: Trainer
    train_images: int
    val: tuple[EvalBatches, Tensor]
    header: ModelHeader
    began: float


def prepare_new(config: TrainConfig, on_event: OnEvent, dataset: Dataset | None = None) -> Setup:
    """A run from its first step; with `init`, its network is the checkpoint's, variant and all. `dataset`: the one that
    the config names, where it is loaded already.

    What the config leaves to the machine is decided here and written into `Setup.config`, and where the weights come
    from into the header.
    """
    runtime = runtime_for(config, on_event)
    start = None if config.init is None else open_any(config.init, on_event)
    variant = config.shortcut
    lineage: tuple[Ancestor, ...] = ()
    if start is not None and config.init is not None:
        lineage = lineage_from(start, config.init)
        variant = start.header.architecture.shortcut
        if variant != config.shortcut:
            on_event(Notice(f"{config.init} has shortcut={variant}, which this run takes over", warning=True))
    decided = {
        "shortcut": variant,
        "device": str(runtime.device),
        "threads": runtime.threads,
        "precision": runtime.precision,
    }
    config = config.model_copy(update=decided)
    seed_everything(config.seed)
    if start is None:
        network = channels_last(ResNet(shortcut=config.shortcut, branch_scale=config.branch_scale))
        return prepare(config, runtime, network, Normalization(mean=MEAN, std=STD), on_event, dataset)
    network = build(start)
    if config.optimizer == "muon":
        rescale_for_muon(network)
    setup = prepare(config, runtime, network, start.header.normalization, on_event, dataset)
    setup = replace(setup, header=setup.header.model_copy(update={"lineage": lineage}))
    warn_of_known_images(setup, on_event)
    return setup


def warn_of_known_images(setup: Setup, on_event: OnEvent) -> None:
    """Warns where the weights that the run started from may have been trained on its validation images."""
    config = setup.config
    if config.val_fraction and not validation_unseen(setup.header, config.data, config.val_fraction, config.split_seed):
        text = f"{config.init} may have been trained on images of this validation split: its accuracy will flatter"
        on_event(Notice(text, warning=True))


def prepare(
    config: TrainConfig,
    runtime: Runtime,
    network: ResNet,
    normalization: Normalization,
    on_event: OnEvent,
    dataset: Dataset | None = None,
) -> Setup:
    """Data, batches and trainer for a plain channels_last `network`, wired together."""
    dataset = dataset or load_dataset(config, on_event)
    began = time.monotonic()
    on_event(Phase("preparing images and network"))
    if network.head.out_features != len(dataset.classes):
        raise CheckpointError(
            f"{config.init}: {network.head.out_features} classes, but {dataset.name} has {len(dataset.classes)}",
            "start from a checkpoint of the same classes",
        )
    kept, val = stratified_split(dataset.train.labels, config.val_fraction, config.split_seed)
    if config.val_fraction and not len(val):
        raise UsageError(
            f"--val-fraction {config.val_fraction:g} of {dataset.name} is less than one image a class",
            "raise it, or set it to 0 for a final run",
        )
    if config.limit_train is not None:
        if config.limit_train > len(kept):
            raise UsageError(f"--limit-train {config.limit_train}: there are {len(kept)} images to train on")
        kept = kept[stratified_limit(dataset.train.labels[kept], config.limit_train, config.split_seed)]
    if len(kept) < 2:
        raise UsageError(f"{len(kept)} training image(s) left: BatchNorm needs at least 2", "raise --limit-train")
    device = runtime.device
    normalize = Normalizer(normalization.mean, normalization.std, device)
    images, labels = dataset.train.images, dataset.train.labels
    header = ModelHeader(
        architecture=Architecture(shortcut=network.shortcut, num_classes=len(dataset.classes)),
        class_names=dataset.classes,
        normalization=normalization,
        data=dataset.name,
        chosen_by="none",
        val_fraction=config.val_fraction,
        split_seed=config.split_seed,
        recipe=config.recipe,
        config=config.model_dump(mode="json"),
        appearance=learn_appearance(images[val], "val") if len(val) else learn_appearance(images[kept], "train"),
        versions=versions(runtime),
    )
    trainer = make_trainer(network, images[kept], labels[kept], normalize, config, runtime)
    val_batches = EvalBatches(images[val].to(device), inference_rows(device), normalize)
    return Setup(config, runtime, dataset, network, trainer, len(kept), (val_batches, labels[val]), header, began)


def make_trainer(
    network: ResNet, images: Tensor, labels: Tensor, normalize: Normalizer, config: TrainConfig, runtime: Runtime
) -> Trainer:
    """A plain channels_last `network` with the fast paths of this machine, and its batches, on the device."""
    device = runtime.device
    batches = TrainBatches(images.to(device), labels.to(device), config, normalize, network.head.out_features)
    if device.type == "cpu":
        network = accelerate(network)
    return Trainer(network.to(device), batches, config, runtime)
