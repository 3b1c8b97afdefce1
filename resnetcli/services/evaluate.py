"""`evaluate`: one checkpoint measured on one split."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import get_args

import torch
from torch import Tensor

from resnetcli.checkpoints.reading import Checkpoint
from resnetcli.config.base import DataOptions, DatasetName, SplitName, TestTimeAugmentation
from resnetcli.config.commands import EvaluateConfig
from resnetcli.data.batches import EvalBatches, Normalizer
from resnetcli.data.cifar10 import Dataset, Split
from resnetcli.data.load import load_dataset
from resnetcli.data.split import stratified_limit, stratified_split
from resnetcli.engine.calibration import probabilities
from resnetcli.engine.evaluate import collect_logits, inference_rows
from resnetcli.engine.runtime import Runtime
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import Notice, OnEvent, Progress
from resnetcli.metrics import calibration, likelihood, scores
from resnetcli.models.resnet import ResNet
from resnetcli.results.evaluate import Answer, EvaluateResult, Protocol, Uncalibrated
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import check_finite, for_inference, open_network, temperature_of, validation_unseen


def evaluate(config: EvaluateConfig, *, on_event: OnEvent) -> EvaluateResult:
    """Measures one split; in float32 unless `config` says otherwise, whatever the precision of training was: a
    reported accuracy does not depend on the machine's taste.

    Raises CheckpointError, DataError, UsageError.
    """
    runtime = runtime_for(config, on_event)
    checkpoint, network = open_network(config.checkpoint, on_event)
    dataset = load_dataset(data_options(config, config.data, checkpoint), on_event)
    header = checkpoint.header
    chosen = select_split(dataset, config.split, checkpoint)
    if config.split == "val" and not validation_unseen(header, dataset.name, header.val_fraction, header.split_seed):
        text = f"{checkpoint.label}, or what it started from, may have been trained on images of this val split"
        on_event(Notice(f"{text}: its accuracy will flatter", warning=True))
    result = measure(
        checkpoint, network, dataset, config.split, chosen, config.tta, runtime, on_event, calibrate=config.calibrate
    )
    assert result is not None  # nothing was there to stop it
    return result


def data_options(places: DataOptions, stated: DatasetName | None, *checkpoints: Checkpoint) -> DataOptions:
    """The stated data set, else the one that the first of the checkpoints to name one was trained on, else the
    default; to be found where `places` says."""
    known = next((c.header.data for c in checkpoints if c.header.data in get_args(DatasetName)), None)
    data = stated or known or DataOptions().data
    return DataOptions.model_validate(places.model_dump(include={"data_dir", "cache_dir", "source"}) | {"data": data})


def measure(
    checkpoint: Checkpoint,
    network: ResNet,
    dataset: Dataset,
    split: SplitName,
    chosen: Split,
    tta: TestTimeAugmentation,
    runtime: Runtime,
    on_event: OnEvent,
    *,
    calibrate: bool = True,
    task: str = "Evaluating",
    stop: Callable[[], bool] = lambda: False,
) -> EvaluateResult | None:
    """Measures a network on `chosen`, the images of a split of `dataset`, all at hand; None if `stop` cut it short.

    With `calibrate`, probabilities are those of the logits divided by the checkpoint's temperature, where it has one:
    it was fitted on single views, and serves averages of views all the same. Raises CheckpointError.
    """
    header = checkpoint.header
    if header.class_names != dataset.classes:
        known, wanted = ", ".join(header.class_names[:10]), ", ".join(dataset.classes)
        raise CheckpointError(
            f"{checkpoint.label}: knows {len(header.class_names)} classes ({known}), "
            f"but {dataset.name} has {len(dataset.classes)} ({wanted})",
            "evaluate it on the data that it was trained on",
        )
    labels = chosen.labels
    normalize = Normalizer(header.normalization.mean, header.normalization.std, runtime.device)
    batches = EvalBatches(chosen.images.to(runtime.device), inference_rows(runtime.device), normalize)
    folded = for_inference(network, runtime)
    if runtime.device.type != "cpu":  # libraries load their kernels with the first batch
        collect_logits(folded, islice(batches, 1))
    start = time.perf_counter()
    task = f"{task} on {split}"
    logits = collect_logits(
        folded,
        batches,
        tta=tta,
        stop=stop,
        on_images=lambda done: on_event(Progress(task, done, len(labels), "images")),
    )
    seconds = time.perf_counter() - start
    if logits is None:
        return None
    check_finite(logits, checkpoint)
    temperature = temperature_of(header, calibrate)
    predicted = logits.argmax(1)  # of the logits themselves: no rounding of a probability can change an answer
    correct = (predicted == labels).tolist()
    confidence, true_probability = _probabilities(logits, predicted, labels, temperature or 1.0)
    uncalibrated = None
    if temperature is not None:
        before = _probabilities(logits, predicted, labels, 1.0)
        uncalibrated = Uncalibrated(nll=likelihood(before[1]), ece=calibration(before[0], correct)[0])
    in_top5 = (logits.topk(min(5, logits.shape[1])).indices == labels[:, None]).any(1)
    answers = tuple(map(Answer, range(len(labels)), labels.tolist(), predicted.tolist(), confidence))
    return EvaluateResult(
        checkpoint=checkpoint.label,
        protocol=Protocol(data=dataset.name, split=split, chosen_by=header.chosen_by, tta=tta),
        scores=scores(
            classes=dataset.classes,
            labels=[a.label for a in answers],
            predicted=[a.predicted for a in answers],
            in_top5=in_top5.tolist(),
            confidence=confidence,
            true_probability=true_probability,
        ),
        temperature=temperature,
        uncalibrated=uncalibrated,
        device=str(runtime.device),
        precision=runtime.precision,
        seconds=seconds,
        images_per_s=len(labels) / seconds,
        answers=answers,
    )


def _probabilities(
    logits: Tensor, predicted: Tensor, labels: Tensor, temperature: float
) -> tuple[list[float], list[float]]:
    """Of the predicted class and of the label, image by image."""
    both = probabilities(logits, temperature).gather(1, torch.stack((predicted, labels), 1))
    return both[:, 0].tolist(), both[:, 1].tolist()


def select_split(dataset: Dataset, split: SplitName, checkpoint: Checkpoint) -> Split:
    """Images and labels of a split. `val` is what the checkpoint's own run held out of the training images, `train`
    what it trained on; of a foreign checkpoint and of a final run `train` is all of them, and there is no `val`
    (UsageError)."""
    if split == "test":
        return dataset.test
    fraction = held_out(checkpoint, dataset.name)
    train, val = stratified_split(dataset.train.labels, fraction, checkpoint.header.split_seed or 0)
    chosen = train if split == "train" else val
    if not len(chosen):
        raise UsageError(
            f"--split val: {checkpoint.label} held out no images of {dataset.name}", "use --split test or --split train"
        )
    limit = checkpoint.header.config.get("limit_train")
    if split == "train" and checkpoint.header.data == dataset.name and isinstance(limit, int) and limit > 0:
        labels = dataset.train.labels[chosen]
        chosen = chosen[stratified_limit(labels, limit, checkpoint.header.split_seed or 0)]
    return Split(dataset.train.images[chosen], dataset.train.labels[chosen])


def held_out(checkpoint: Checkpoint, data: str) -> float:
    """Share of the training images of `data` that the checkpoint's own run did not train on."""
    header = checkpoint.header
    return header.val_fraction or 0.0 if header.data == data else 0.0
