"""Training speed: resnetcli beside a plain PyTorch loop, a Lightning trainer and a timm-style loop, same network.

    pip install -e '.[benchmarks]'
    python examples/benchmarks/training_beside_lightning_and_timm.py [--rounds N] [--seconds S] [--threads N] [--quick]

All train the identity variant on the same random pictures with random crop and flip; the others with Adam at lr 1e-3
and batches of 100 in float32, resnetcli with its default recipe, at full size. Each lives in a process of its own and
all take turns, round by round; medians count, and a first round warms up. Lightning draws no progress bar here, which
it would by default. --quick shows that everything runs; its figures mean little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import resnetcli  # noqa: F401  # before torch: it says how OpenMP's threads wait, and shall say it to all alike

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import RandomCrop

from resnetcli.cli.resolve import Given, resolve_train
from resnetcli.config.base import IMAGE_SIZE
from resnetcli.data.noise import random_split
from resnetcli.events import ignore
from resnetcli.models.resnet import ResNet
from resnetcli.services.bench import spread, take_turns
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import MEAN, STD
from resnetcli.services.plain import LEARNING_RATE, Pictures
from resnetcli.services.turns import PLAIN_BATCH_SIZE, Turn, elsewhere, plain_loop, serve, stepping, training
from resnetcli.surroundings import inside

try:
    with inside(os.sep):  # torchmetrics imports matplotlib, which reads a matplotlibrc of the current folder
        import lightning
    import timm.utils
    from timm.data import create_transform
    from timm.optim import create_optimizer_v2
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install -e '.[benchmarks]'")


class LightningResNet(lightning.LightningModule):
    """The network as Lightning wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNet()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


class Stopwatch(lightning.Callback):
    """Ends a fit when its time is up, and knows how many images a second it made."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.images = seconds, 0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        self.images += PLAIN_BATCH_SIZE
        trainer.should_stop = time.perf_counter() - self.start >= self.seconds

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.rate = self.images / (time.perf_counter() - self.start)


def lightning_turns(images: int, device: torch.device) -> Turn:
    pictures = Pictures(random_split(images), augment=True)
    loader = DataLoader(pictures, batch_size=PLAIN_BATCH_SIZE, shuffle=True, drop_last=True)
    module = LightningResNet()

    def turn(seconds: float) -> float:
        stopwatch = Stopwatch(seconds)
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=1,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=[stopwatch],
        )
        trainer.fit(module, loader)
        return stopwatch.rate

    return turn


def timm_steps(images: int, device: torch.device) -> Iterator[int]:
    """The body of timm's training script with its optimiser factory, meter and transforms; as is usual for CIFAR, a
    padded crop takes the place of the resized one."""
    pictures = Pictures(random_split(images), augment=True)
    pictures.transform = create_transform(32, is_training=True, color_jitter=0.0, mean=MEAN, std=STD)
    pictures.transform.transforms[0] = RandomCrop(32, padding=4)
    loader = DataLoader(pictures, batch_size=PLAIN_BATCH_SIZE, shuffle=True, drop_last=True)
    network = ResNet().to(device)
    optimizer = create_optimizer_v2(network, opt="adam", lr=LEARNING_RATE)
    losses = timm.utils.AverageMeter()
    while True:
        network.train()
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            loss = F.cross_entropy(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(inputs))
            yield len(inputs)


SERVED: dict[str, Callable[[int, torch.device], Turn]] = {
    "Lightning": lightning_turns,
    "timm": lambda images, device: stepping(timm_steps(images, device), device),
}


def served(name: str, images: int, threads: int, device: str) -> None:
    torch.set_num_threads(threads)
    serve(SERVED[name](images, torch.device(device)))


def main() -> None:
    environment = dict(os.environ)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn")
    parser.add_argument("--threads", type=int, default=0, help="0: what torch chooses")
    parser.add_argument("--quick", action="store_true", help="one short round with few pictures")
    given = parser.parse_args()
    rounds, seconds, images = (1, 0.2, 1_000) if given.quick else (given.rounds, given.seconds, 50_000)

    # the others have no smaller images either
    config, _ = resolve_train(Given({"start_size": IMAGE_SIZE, "threads": given.threads}), None)
    runtime = runtime_for(config, ignore)

    def other(name: str) -> Any:
        command = [sys.executable, __file__, json.dumps([name, images, runtime.threads, str(runtime.device)])]
        return elsewhere(name, command, environment)

    with (
        plain_loop("train", "identity", images, runtime, environment) as plain,
        other("Lightning") as fit,
        other("timm") as timm_style,
    ):
        ours, _ = training(config, runtime, random_split(images), ignore)
        contenders = {"resnetcli": ours, "plain PyTorch": plain, "Lightning": fit, "timm": timm_style}
        rates, _ = take_turns(contenders, rounds, seconds, runtime.device, ignore)

    versions = f"torch {torch.__version__}, lightning {lightning.__version__}, timm {timm.__version__}"
    print(f"{runtime.device}, {runtime.threads} threads, {versions}; resnetcli in {runtime.precision}\n")
    print(f"{'':14s} images/s   lowest-highest   resnetcli is faster by")
    speeds = {name: spread(values) for name, values in rates.items()}
    for name, speed in speeds.items():
        ratio = speeds["resnetcli"].median / speed.median
        print(f"{name:14s} {speed.median:8,.0f}   {f'{speed.low:,.0f}-{speed.high:,.0f}':>14s}   {ratio:21.2f}x")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        served(*json.loads(sys.argv[1]))
    else:
        main()
