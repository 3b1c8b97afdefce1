"""`predict`: pictures in, classes with probabilities out. Preprocessing comes from the checkpoint."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from resnetcli.config.commands import PredictConfig
from resnetcli.cpus import usable_cpus
from resnetcli.data import finding
from resnetcli.data import images as pictures
from resnetcli.data.appearance import STRANGE_SHARE, strangeness
from resnetcli.data.batches import Normalizer
from resnetcli.engine.calibration import probabilities
from resnetcli.engine.evaluate import evaluating, inference_rows, logits_of
from resnetcli.errors import DataError, Interrupted
from resnetcli.events import Notice, OnEvent, Phase, Progress
from resnetcli.results.checkpoints import Appearance
from resnetcli.results.predict import Guess, LeftOut, NoticeKind, Prediction, PredictResult
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import check_finite, for_inference, open_network, temperature_of

MAX_DECODERS = 8
BATCHES_AHEAD = 2
"""Pictures decoded while the network is busy, in batches: one in work and one that waits."""

PATIENCE_SECONDS = 1.0
"""Large photographs take long to decode; the first answers do not wait for a hundred more of them."""

Read = tuple[str, pictures.Decoded | DataError]


def predict(
    config: PredictConfig,
    *,
    stdin: BinaryIO | None,
    on_event: OnEvent,
    on_prediction: Callable[[Prediction], None] | None,
    on_top_k: Callable[[int], None] | None = None,
) -> PredictResult:
    """Classifies every picture that `config.paths` names; one that cannot be read gets an `error` and stops nobody.

    Pictures are decoded while others are computed; those of three batches are in memory at a time. With
    `on_prediction` each prediction goes there, in the order of the paths, and none is kept for the result; before the
    first, `on_top_k` is told how many classes an answer has. A signal that comes after the first answer ends the work,
    and the result says so. Raises CheckpointError, UsageError, DataError where there is no picture at all.
    """
    runtime = runtime_for(config, on_event)
    checkpoint, trained = open_network(config.checkpoint, on_event)
    header = checkpoint.header
    network = for_inference(trained, runtime)
    normalize = Normalizer(header.normalization.mean, header.normalization.std, runtime.device)
    top_k = min(config.top_k, len(header.class_names))
    if on_top_k is not None:
        on_top_k(top_k)
    temperature, known = temperature_of(header, config.calibrate), header.appearance

    def classify(batch: list[pictures.Decoded]) -> list[tuple[tuple[Guess, ...], float | None]]:
        """Guesses and strangeness of each picture."""
        pixels = torch.from_numpy(np.stack([item.pixels for item in batch])).permute(0, 3, 1, 2)
        with evaluating(network):
            logits = logits_of(network, normalize(pixels.to(runtime.device)), tta=config.tta).cpu()
        check_finite(logits, checkpoint)
        # Stable: of equal logits, which bf16 often gives, the first class wins, as it does in `evaluate`.
        indices = logits.argsort(stable=True, dim=1, descending=True)[:, :top_k]
        values = probabilities(logits, temperature or 1.0).gather(1, indices)
        strange = [None] * len(batch) if known is None else strangeness(pixels, known).tolist()
        return [
            (tuple(Guess(label=header.class_names[i], probability=p) for i, p in zip(row_i, row_p, strict=True)), far)
            for row_i, row_p, far in zip(indices.tolist(), values.tolist(), strange, strict=True)
        ]

    def answered(read: list[Read]) -> Iterator[Prediction]:
        answers = iter(classify(good) if (good := [d for _, d in read if isinstance(d, pictures.Decoded)]) else [])
        for path, item in read:
            if isinstance(item, DataError):
                yield Prediction(path=path, error=item.message)
            else:
                guesses, far = next(answers)
                noted = item.noted | _unlike(far, known)
                yield Prediction(
                    path=path,
                    guesses=guesses,
                    strangeness=far,
                    notices=tuple(noted.values()),
                    notice_kinds=tuple(noted),
                )

    kept: list[Prediction] = []
    hand_out = on_prediction or kept.append
    rows, done, failed, interrupted = inference_rows(runtime.device), 0, 0, False
    left_out = finding.LeftOut()
    try:
        on_event(Phase("reading pictures"))
        with pictures.quiet_decoders():
            names = finding.find(config.paths, config.recursive, stdin, left_out, null=config.null)
            decoded = _decoded(names, header.architecture.image_size, ahead=BATCHES_AHEAD * rows)
            for read in _batches(decoded, rows):
                for prediction in answered(read):
                    hand_out(prediction)
                    done, failed = done + 1, failed + (prediction.error is not None)
                on_event(Progress("Predicting", done, None, "pictures"))
    except Interrupted as stopped:
        if not (done or kept):
            raise
        interrupted = True
        on_event(Notice(f"{stopped.message}: {done} pictures were answered, and the others were not", warning=True))
    if on_prediction is None:  # a signal can come between an answer and its count
        done, failed = len(kept), sum(prediction.error is not None for prediction in kept)
    if not done:
        raise DataError("no picture to predict: the list was empty", "name files, folders or globs")
    if failed:
        on_event(Notice(f"{failed} of {done} pictures could not be read", warning=True))
    for sentence in left_out.sentences():
        on_event(Notice(sentence, warning=True))
    return PredictResult(
        checkpoint=checkpoint.label,
        test_top1=header.metrics.get("test_top1"),
        tta=config.tta,
        precision=runtime.precision,
        top_k=top_k,
        image_size=header.architecture.image_size,
        temperature=temperature,
        strangeness_threshold=None if known is None else known.threshold,
        predictions=tuple(kept),
        pictures=done,
        failed=failed,
        interrupted=interrupted,
        left_out=LeftOut(kinds=dict(sorted(left_out.suffixes.items())), linked_folders=len(left_out.linked_folders)),
    )


def _unlike(far: float | None, known: Appearance | None) -> dict[NoticeKind, str]:
    """A notice where a picture lies further off than nearly all images that the checkpoint knows."""
    if known is None or far is None or far <= known.threshold:
        return {}
    which = "validation" if known.split == "val" else "training"
    usual = f"{100 * (1 - STRANGE_SHARE):g} % of them within {known.threshold:.1f}"
    text = f"looks unlike the {which} images (strangeness {far:.1f}, {usual}): the answer may mean nothing"
    return {"out_of_distribution": text}


def _batches(decoded: Iterator[Read], rows: int) -> Iterator[list[Read]]:
    """Pictures in batches of `rows`, or of fewer where those would let a reader wait: a batch costs the same."""
    batch: list[Read] = []
    began = time.monotonic()
    for read in decoded:
        batch.append(read)
        if len(batch) == rows or time.monotonic() - began > PATIENCE_SECONDS:
            yield batch
            batch, began = [], time.monotonic()
    if batch:
        yield batch


def _decoded(names: Iterator[finding.Found], size: int, ahead: int) -> Iterator[Read]:
    """Every picture in its place, decoded by threads that are at most `ahead` pictures ahead of the reader."""

    def decode(found: finding.Found) -> Read:
        try:
            if found.error is not None:
                raise DataError(found.error)
            return found.path, pictures.decode(Path(found.path), size, found.data)
        except DataError as error:
            return found.path, error

    waiting: deque[Future[Read]] = deque()
    # Decoders work outside of Python's lock, so that threads are as good as processes here and start at once.
    pool = ThreadPoolExecutor(min(MAX_DECODERS, usable_cpus()), thread_name_prefix="decode")
    try:
        for found in names:
            waiting.append(pool.submit(decode, found))
            while waiting and (len(waiting) > ahead or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
