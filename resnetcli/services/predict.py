"""`predict`: pictures in, classes with probabilities out. Preprocessing comes from the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from resnetcli.config import PredictConfig
from resnetcli.data import images as pictures
from resnetcli.data.batches import Normalizer
from resnetcli.engine.evaluate import evaluating, inference_rows, logits_of
from resnetcli.engine.runtime import resolve_runtime
from resnetcli.errors import DataError
from resnetcli.events import Notice, OnEvent, Progress
from resnetcli.results import Guess, Prediction, PredictResult
from resnetcli.services.networks import open_network


def predict(
    config: PredictConfig,
    *,
    stdin: TextIO | None,
    on_event: OnEvent,
    on_prediction: Callable[[Prediction], None],
) -> PredictResult:
    """Classifies every picture that `config.paths` names; one that cannot be read gets an `error` and stops nobody.

    The pictures of one batch are in memory at a time. `on_prediction` is called in the order of the paths. Raises
    CheckpointError, UsageError, DataError where there is no picture at all.
    """
    runtime = resolve_runtime(config.device, config.threads, "fp32")
    checkpoint, network = open_network(config.checkpoint, on_event)
    header = checkpoint.header
    normalize = Normalizer(header.normalization.mean, header.normalization.std, runtime.device)
    network.to(runtime.device)
    top_k = min(config.top_k, len(header.class_names))

    def classify(batch: list[pictures.Decoded]) -> list[tuple[Guess, ...]]:
        pixels = torch.from_numpy(np.stack([item.pixels for item in batch])).permute(0, 3, 1, 2)
        with evaluating(network):
            logits = logits_of(network, normalize(pixels.to(runtime.device)), tta=config.tta)
        values, indices = logits.cpu().double().softmax(1).topk(top_k)
        return [
            tuple(Guess(label=header.class_names[i], probability=p) for i, p in zip(row_i, row_p, strict=True))
            for row_i, row_p in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    done: list[Prediction] = []
    for read in _chunks(_decoded(config, header.architecture.image_size, stdin), inference_rows(runtime.device)):
        guesses = iter(classify(good) if (good := [d for _, d in read if isinstance(d, pictures.Decoded)]) else [])
        for path, item in read:
            if isinstance(item, DataError):
                prediction = Prediction(path=path, error=item.message)
            else:
                prediction = Prediction(path=path, guesses=next(guesses), notices=item.notices)
            done.append(prediction)
            on_prediction(prediction)
        on_event(Progress("Predicting", len(done), None, "pictures"))
    failed = sum(p.error is not None for p in done)
    if not done:
        raise DataError("no picture to predict: the list was empty", "name files, folders or globs")
    if failed:
        on_event(Notice(f"{failed} of {len(done)} pictures could not be read", warning=True))
    return PredictResult(checkpoint=str(checkpoint.path), tta=config.tta, predictions=tuple(done), failed=failed)


def _decoded(
    config: PredictConfig, size: int, stdin: TextIO | None
) -> Iterator[tuple[str, pictures.Decoded | DataError]]:
    for found in pictures.find(config.paths, config.recursive, stdin):
        try:
            yield found.path, _decode(found, size)
        except DataError as error:
            yield found.path, error


def _decode(found: pictures.Found, size: int) -> pictures.Decoded:
    if found.error is not None:
        raise DataError(found.error)
    return pictures.decode(Path(found.path), size)


def _chunks(
    items: Iterator[tuple[str, pictures.Decoded | DataError]], size: int
) -> Iterator[list[tuple[str, pictures.Decoded | DataError]]]:
    while chunk := list(islice(items, size)):
        yield chunk
