"""What pictures of a data set look like, whatever they show, and how far from that another picture is.

Called strange, where 1 % of the validation images are, by these looks, and by the energy of the logits (Liu et al.
2020, https://arxiv.org/abs/2010.03759). An 84.7 % network, 10,000 test images and 1,000 of each other kind, `python
examples/strange_pictures.py CKPT --pictures FOLDER --count 1000`:

    test images 1.0 %, 1.0 %               uniform noise 100 %, 0.0 %     gaussian noise 100 %, 0.0 %
    test images in grey 0.3 %, 1.6 %       flat colours 100 %, 2.7 %      gradients 100 %, 0.4 %
    as JPEG of quality 75 0.7 %, 0.7 %     checkerboards 100 %, 2.6 %     rendered text 84.2 %, 16.5 %
    half as bright 3.6 %, 0.7 %            crops of brick, grass and gravel 32.4 %, 4.8 %
    seen in 24 pixels 6.5 %, 0.8 %         of microscopes and telescopes 60.9 %, 32.8 %
    blurred by a pixel 99.6 %, 2.5 %       of printed pages 6.9 %, 14.1 %; of photographs 27.1 %, 11.4 %

Hence the looks: of five more scores of the logits that this prints, none finds 7 % of noise, flat colours, gradients or
checkerboards. What a good photograph shows they cannot say: of six whole ones (a person, a cup, coins, a motorcycle,
buildings, a flower) neither score called any strange.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from resnetcli.results.checkpoints import Appearance

STRANGE_SHARE = 0.01
"""No more than this share of the images that an appearance was learned from is beyond its threshold."""
MIN_IMAGES = 100
"""Of fewer, `STRANGE_SHARE` is less than one image."""
REGULARIZATION = 1e-6
"""On the diagonal of the covariance, so that it has an inverse where all images are alike."""
CHUNK = 1000


def statistics(images: Tensor) -> Tensor:
    """Seven numbers that say how an image looks, float64[N,7] of uint8[N,3,H,W]: the mean of each channel as a fraction
    of full scale; then log(1 + v) for v, in steps of 1/255, the contrast (root of the channels' mean variance), the
    mean absolute difference of neighbours in a row, of neighbours in a column, and the mean absolute Laplacian.

    Sums are of whole numbers: an image's answer does not depend on the company it is in.
    """
    return torch.cat([_statistics(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)])


def _statistics(images: Tensor) -> Tensor:
    x = images.int()
    pixels = x.shape[2] * x.shape[3]
    total, squares = x.sum((2, 3)), (x * x).sum((2, 3))
    variance = (pixels * squares - total * total).double() / pixels**2
    inner = x[..., 1:-1, 1:-1]
    differences = (
        x[..., 1:] - x[..., :-1],
        x[..., 1:, :] - x[..., :-1, :],
        4 * inner - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:],
    )
    steps = [variance.sum(1).div(3).sqrt()]
    steps += [d.abs().sum((1, 2, 3)).double() / d[0].numel() for d in differences]
    return torch.cat([total.double() / (255 * pixels), torch.stack(steps, 1).log1p()], 1)


def learn_appearance(images: Tensor, split: Literal["val", "train"]) -> Appearance | None:
    """The Gaussian of the statistics of uint8[N,3,H,W], and how far from its mean 99 % of them lie; None of fewer than
    `MIN_IMAGES` images."""
    if len(images) < MIN_IMAGES:
        return None
    numbers = statistics(images)
    covariance = torch.cov(numbers.T) + REGULARIZATION * torch.eye(numbers.shape[1], dtype=numbers.dtype)
    mean, precision = numbers.mean(0), torch.linalg.inv(covariance)
    ordered = _distances(numbers, mean, precision).sort().values
    return Appearance(
        mean=tuple(mean.tolist()),
        precision=tuple(map(tuple, precision.tolist())),
        threshold=ordered[len(ordered) - 1 - int(STRANGE_SHARE * len(ordered))].item(),
        images=len(images),
        split=split,
    )


def strangeness(images: Tensor, known: Appearance) -> Tensor:
    """How far each image of uint8[N,3,H,W] lies from those of `known`, float64[N]: the Mahalanobis distance of its
    statistics, about 2.5 for a usual image."""
    precision = torch.tensor(known.precision, dtype=torch.float64)
    return _distances(statistics(images), torch.tensor(known.mean, dtype=torch.float64), precision)


def _distances(numbers: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    away = numbers - mean
    return ((away[:, :, None] * precision).sum(1) * away).sum(1).clamp_min(0).sqrt()
