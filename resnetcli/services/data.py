"""`data download`, `data verify` and `data show`."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from resnetcli.checkpoints import storage
from resnetcli.config.commands import DataConfig, DataShowConfig, DataVerifyConfig
from resnetcli.data import cifar10, mini, sources
from resnetcli.data.cifar10 import Dataset
from resnetcli.data.load import load_dataset
from resnetcli.data.split import stratified_limit
from resnetcli.errors import UsageError
from resnetcli.events import Notice, OnEvent
from resnetcli.results.data import BatchCheck, DataResult, DataShowResult

COLUMNS = 10
"""Images in a row of the picture that `data show` writes."""


def download(config: DataConfig, on_event: OnEvent) -> DataResult:
    """Fetch the data set into the cache, unless it is there and whole.

    Raises DataError where no source has it, StorageError where it cannot be kept.
    """
    started = time.perf_counter()
    if config.data == "cifar10-mini":
        return _mini_result("data download", started)
    path, source = sources.fetch(config, on_event)
    if source == "cache":
        on_event(Notice(f"CIFAR-10 is already in {path}, every digest as it should be"))
    return _cifar10_result("data download", path, source, started)


def verify(config: DataVerifyConfig, on_event: OnEvent) -> DataResult:
    """Hold every batch of the cache against its canonical digest, and count; fetches nothing.

    Raises DataError, which says what is wrong, where the cache is missing or damaged.
    """
    started = time.perf_counter()
    if config.data == "cifar10-mini":
        return _mini_result("data verify", started)
    path = cifar10.cache_path(config.cache_dir)
    return _cifar10_result("data verify", path, "cache", started)


def show(config: DataShowConfig, on_event: OnEvent) -> tuple[DataShowResult, NDArray[np.uint8]]:
    """Draw images evenly over the classes, in the order of the classes, and write them as a picture if asked to.

    Returns the result and the images, uint8[count,32,32,3]. Raises UsageError, DataError and StorageError.
    """
    if config.output is not None and config.output.suffix.lower() != ".png":
        raise UsageError(f"--output {config.output} is no PNG file", "give it a name that ends in .png")
    if config.output is not None and config.output.exists():
        raise UsageError(f"{config.output} exists, and nothing is overwritten", "choose another --output")
    dataset = load_dataset(config, on_event)
    split = dataset.train if config.split == "train" else dataset.test
    if config.count > len(split.labels):
        text = f"the {config.split} split of {dataset.name} has {len(split.labels):,} images, not {config.count:,}"
        on_event(Notice(f"{text}: all are shown"))
    drawn = stratified_limit(split.labels, config.count, config.seed)
    drawn = drawn[split.labels[drawn].argsort(stable=True)]
    images = split.images[drawn].permute(0, 2, 3, 1).contiguous().numpy()
    labels = [dataset.classes[label] for label in split.labels[drawn].tolist()]
    if config.output is not None:
        _save(draw_grid(images, labels, config.scale), config.output)
        on_event(Notice(f"{len(labels)} images are in {config.output}"))
    result = DataShowResult(
        data=dataset.name,
        split=config.split,
        labels=tuple(labels),
        indices=tuple(drawn.tolist()),
        written=str(config.output) if config.output is not None else None,
    )
    return result, images


def draw_grid(images: NDArray[np.uint8], labels: list[str], scale: int) -> Image.Image:
    """Rows of `images: uint8[N,32,32,3]`, enlarged `scale` times; each class begins a row with its name."""
    side, gap = images.shape[1] * scale, 2 * scale
    font = ImageFont.load_default(size=max(12, 7 * scale))
    rows = [
        members[start : start + COLUMNS]
        for name in dict.fromkeys(labels)
        for members in [[index for index, label in enumerate(labels) if label == name]]
        for start in range(0, len(members), COLUMNS)
    ]
    margin = int(max(font.getlength(name) for name in labels)) + 4 * gap
    width = margin + max(len(row) for row in rows) * (side + gap)
    grid = Image.new("RGB", (width, gap + len(rows) * (side + gap)), "white")
    pen = ImageDraw.Draw(grid)
    named = None
    for number, row in enumerate(rows):
        top = gap + number * (side + gap)
        if labels[row[0]] != named:
            named = labels[row[0]]
            pen.text((margin - 2 * gap, top + side // 2), named, fill="black", font=font, anchor="rm")
        for column, index in enumerate(row):
            tile = Image.fromarray(images[index]).resize((side, side), Image.Resampling.NEAREST)
            grid.paste(tile, (margin + column * (side + gap), top))
    return grid


def _save(picture: Image.Image, path: Path) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    storage.write_file(path, buffer.getvalue(), parents=True)


def _cifar10_result(command: str, path: Path, source: str, started: float) -> DataResult:
    dataset = cifar10.load(path)
    batches = tuple(
        BatchCheck(name=name, images=cifar10.IMAGES_PER_BATCH, sha256=digest, ok=True)
        for name, digest in cifar10.SHA256.items()  # `load` lets nothing else through
    )
    return _result(command, dataset, path, source, path.stat().st_size, batches, started)


def _mini_result(command: str, started: float) -> DataResult:
    draws = mini.read()
    batches = tuple(
        BatchCheck(name=split, images=len(draw.labels), sha256=draw.sha256(), ok=True) for split, draw in draws.items()
    )
    size = sum(file.stat().st_size for file in mini.FOLDER.iterdir())
    return _result(command, mini.load(), mini.FOLDER, "package", size, batches, started)


def _result(
    command: str,
    dataset: Dataset,
    path: Path,
    source: str,
    size: int,
    batches: tuple[BatchCheck, ...],
    started: float,
) -> DataResult:
    mean, std = cifar10.channel_statistics(dataset.train.images)
    counts = torch.bincount(dataset.train.labels, minlength=len(dataset.classes)).tolist()
    return DataResult(
        command=command,
        data=dataset.name,
        path=str(path),
        source=source,
        size=size,
        seconds=time.perf_counter() - started,
        batches=batches,
        class_counts=dict(zip(dataset.classes, counts, strict=True)),
        mean=mean,
        std=std,
    )
