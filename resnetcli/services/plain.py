"""The loop that anyone would write for this network in plain PyTorch: what `bench` compares the tool with.

Pictures as PIL images, torchvision's transforms one picture at a time, a DataLoader as it is by default, float32 in the
default layout, batches of 100; Adam at 1e-3 for training. As a program (`python -m resnetcli.services.plain
ARGUMENTS`, started by `services/turns.py`) it takes the turns that it is asked for on stdin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms  # type: ignore[import-untyped]

from resnetcli.config.base import Shortcut
from resnetcli.data.cifar10 import Split
from resnetcli.data.noise import random_split
from resnetcli.models.resnet import ResNet
from resnetcli.services.networks import MEAN, STD
from resnetcli.services.turns import PLAIN_BATCH_SIZE, serve, stepping

LEARNING_RATE = 1e-3


class Pictures(Dataset[tuple[Tensor, int]]):
    """A split as torchvision hands it out: PIL images, transformed one by one to normalised float32[3,32,32]."""

    def __init__(self, split: Split, *, augment: bool) -> None:
        self.pictures = [Image.fromarray(pixels) for pixels in split.images.permute(0, 2, 3, 1).numpy()]
        self.labels = split.labels.tolist()
        crop_and_flip = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([*(crop_and_flip if augment else []), *normalize])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def training(split: Split, shortcut: Shortcut, device: torch.device) -> Iterator[int]:
    """Trains without end; yields the images of each step."""
    loader = DataLoader(Pictures(split, augment=True), batch_size=PLAIN_BATCH_SIZE, shuffle=True)
    network = ResNet(shortcut=shortcut).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    while True:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield len(images)


def inference(split: Split, shortcut: Shortcut, device: torch.device) -> Iterator[int]:
    """Measures accuracy without end; yields the images of each batch."""
    loader = DataLoader(Pictures(split, augment=False), batch_size=PLAIN_BATCH_SIZE)
    network = ResNet(shortcut=shortcut).to(device).eval()
    right = 0
    while True:
        for images, labels in loader:
            with torch.no_grad():
                answers = network(images.to(device)).argmax(1)
            right += (answers == labels.to(device)).sum().item()
            yield len(images)


LOOPS: dict[str, Callable[[Split, Shortcut, torch.device], Iterator[int]]] = {"train": training, "infer": inference}


def main(arguments: str) -> None:
    """Serves turns until stdin ends. `arguments`: JSON object with kind, shortcut, images, device and threads."""
    given: dict[str, Any] = json.loads(arguments)
    torch.set_num_threads(given["threads"])
    device = torch.device(given["device"])
    split = random_split(given["images"])
    serve(stepping(LOOPS[given["kind"]](split, given["shortcut"], device), device))


if __name__ == "__main__":
    main(sys.argv[1])
