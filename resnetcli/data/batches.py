"""Batches for training and for measuring: uint8 on the device in, normalised float batches out. No workers, no
queues."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from resnetcli.config.train import TrainConfig
from resnetcli.data.augment import crop_and_flip, epoch_draws, epoch_order
from resnetcli.data.erasing import epoch_boxes, fill_boxes
from resnetcli.data.mixing import draw_mix, mix
from resnetcli.data.sizes import Shrink, size_in
from resnetcli.data.trivial import TrivialAugment, epoch_operations, grouped


class Normalizer:
    """uint8 or float32[N,3,H,W] in 0..255 to float32[N,3,H,W], (x / 255 - mean) / std per channel, in one fused pass.

    `mean` and `std` are fractions of full scale, as the field writes them.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        self.scale = torch.tensor([1 / (255 * s) for s in std], device=device).view(-1, 1, 1)
        self.shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(-1, 1, 1)
        self.mean_color = torch.tensor([round(255 * m) for m in mean], dtype=torch.uint8, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.to(torch.float32), self.scale)


class TrainBatches:
    """The batches of any epoch from any step on: `batches(epoch, first_step)`.

    All batches of an epoch have one size, the largest up to `batch_size` that divides it evenly: 50,000 images at 512
    are 98 batches of 510. What is left over (here 20 images, other ones in each epoch) waits for the next epoch.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, config: TrainConfig, normalize: Normalizer, classes: int
    ) -> None:
        self.images = images
        self.labels = labels
        self.config = config
        self.normalize = normalize
        self.classes = classes
        self.size = images.shape[2]
        self.steps = -(-len(images) // config.batch_size)
        self.batch_size = len(images) // self.steps
        self.trivial = TrivialAugment(self.size, normalize.mean_color) if config.augment == "trivial" else None

    def __call__(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (float32[B,3,S,S] channels_last, targets) for steps `first_step`, `first_step` + 1, … of `epoch`; S is
        that of `size_in`.

        Targets are labels, int64[B], or where images are mixed the share of each class in them, float32[B,classes].
        """
        config, device, count = self.config, self.images.device, len(self.images)
        order = epoch_order(count, config.seed, epoch)[: self.steps * self.batch_size]
        draws = epoch_draws(
            count, config.crop_padding, config.seed, epoch, alternating_flip=config.alternating_flip
        ).to(device)
        if self.trivial is not None:
            operations = epoch_operations(count, config.augment_share, config.seed, epoch)
            order, of_each = grouped(order, operations[:, 0], self.batch_size)
            strengths = operations[:, 1].to(device)
        size = size_in(config, epoch)
        shrink = Shrink(self.size, size, device) if size < self.size else None
        boxes = epoch_boxes(count, size, config, epoch)
        boxes = None if boxes is None else boxes.to(device)
        order = order.to(device)
        for step in range(first_step, self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            pixels = crop_and_flip(
                self.images, indices, draws[indices], padding_mode=config.padding_mode, flip=config.flip
            )
            if self.trivial is not None:
                self.trivial(pixels, strengths[indices], of_each[step])
            images, targets = self.normalize(shrink(pixels) if shrink else pixels), self.labels[indices]
            if boxes is not None:
                fill_boxes(images, boxes[indices])
            if config.mixup or config.cutmix:
                how = draw_mix(
                    config.mixup,
                    config.cutmix,
                    config.mix_share,
                    batch=len(images),
                    size=images.shape[2],
                    seed=config.seed,
                    epoch=epoch,
                    step=step,
                )
                images, targets = mix(images, targets, how, self.classes)
            yield images, targets


class EvalBatches:
    """All images in order, not augmented: yields float32[B,3,32,32] channels_last, B at most `batch_size`."""

    def __init__(self, images: Tensor, batch_size: int, normalize: Normalizer) -> None:
        self.images = images
        self.batch_size = batch_size
        self.normalize = normalize

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.images), self.batch_size):
            yield self.normalize(self.images[start : start + self.batch_size])
