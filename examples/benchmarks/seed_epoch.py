"""One epoch of the reference recipe: `train --recipe seed --epochs 1` beside the loop that anyone would write.

    python examples/benchmarks/seed_epoch.py [--threads N]

The plain loop: the same network, all 50,000 images as PIL pictures, torchvision's crop and flip, a DataLoader, float32,
Adam at lr 1e-3, batches of 100; then the 10,000 test images. Each is timed as a whole epoch with its own data path, one
after the other. Prints accuracy, seconds of training and images a second of both, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

import resnetcli  # noqa: F401  # before torch: it says how OpenMP's threads wait, and shall say it to all alike

# isort: split
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnetcli.config.base import DataOptions
from resnetcli.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD, Split
from resnetcli.data.load import load_dataset
from resnetcli.events import ignore
from resnetcli.models.resnet import ResNet

MEAN, STD = [m / 255 for m in CIFAR10_MEAN], [s / 255 for s in CIFAR10_STD]


class Pictures(Dataset):
    """A split as torchvision hands it out: PIL pictures, transformed one by one."""

    def __init__(self, split: Split, *steps: object) -> None:
        to_picture = transforms.ToPILImage()
        self.pictures = [to_picture(image.contiguous()) for image in split.images]
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def plain() -> dict[str, float]:
    """The plain loop."""
    dataset = load_dataset(DataOptions(), ignore)
    crop_and_flip = transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()
    train = DataLoader(Pictures(dataset.train, *crop_and_flip), batch_size=100, shuffle=True)
    test = DataLoader(Pictures(dataset.test), batch_size=100)
    torch.manual_seed(0)
    network = ResNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    start = time.perf_counter()
    for images, labels in train:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    network.eval()
    with torch.no_grad():
        right = sum((network(images).argmax(1) == labels).sum().item() for images, labels in test)
    return {"top1": right / len(dataset.test.labels), "seconds": seconds}


def ours(threads: int) -> dict[str, float]:
    """The command, as a person calls it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "resnetcli", "train", "--recipe", "seed", "--epochs", "1", "--json"]
        options = ["--output-dir", folder, "--threads", str(threads)]
        result = json.loads(subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE).stdout)
    return {"top1": result["measured"]["scores"]["top1"]["value"], "seconds": result["train_seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    rows = {"plain PyTorch loop": plain(), "resnetcli": ours(threads)}
    for name, row in rows.items():
        rate = 50_000 / row["seconds"]
        print(f"{name:20s} test top-1 {row['top1']:.2%}   {row['seconds']:6.1f} s   {rate:5.0f} images/s")
    ratio = rows["plain PyTorch loop"]["seconds"] / rows["resnetcli"]["seconds"]
    print(f"ratio {ratio:.2f}x")


if __name__ == "__main__":
    main()
