"""What calibration does for a checkpoint, and which pictures of other things it tells from its ten classes.

python examples/strange_pictures.py CKPT [--pictures FOLDER] [--count 2000] [--data cifar10-mini]

Fits temperature and appearance on the validation images of the checkpoint's run, as `train` does, and measures on the
test images: NLL and ECE before and after, and the share called strange (1 % is meant to be). Then it alters test
images, makes pictures of nothing in particular, and prints what share of each kind is called strange: by their looks,
as `predict` does it, and by scores that logits offer, each with a threshold that 1 % of the validation images are
beyond. --pictures adds square crops of the photographs in its subfolders, and the photographs whole.
"""

from __future__ import annotations

import argparse
import io
import random
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np

import resnetcli  # noqa: F401  # before torch, which it keeps from loading libraries of the current folder

# isort: split
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from resnetcli.config.commands import EvaluateConfig
from resnetcli.data.appearance import STRANGE_SHARE, learn_appearance, strangeness
from resnetcli.data.batches import EvalBatches, Normalizer
from resnetcli.data.load import load_dataset
from resnetcli.engine.calibration import fit_temperature, probabilities
from resnetcli.engine.evaluate import collect_logits, inference_rows, loss_and_top1
from resnetcli.events import ignore
from resnetcli.metrics import calibration
from resnetcli.services.evaluate import data_options, select_split
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import for_inference, open_network

SIZE = 32
LOGITS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "energy": lambda logits: logits.double().logsumexp(1),
    "max logit": lambda logits: logits.double().amax(1),
    "max softmax": lambda logits: probabilities(logits, 1.0).amax(1),
    "margin": lambda logits: -logits.double().topk(2).values.diff()[:, 0],
    "-entropy": lambda logits: (probabilities(logits, 1.0) * logits.double().log_softmax(1)).sum(1),
    "norm": lambda logits: (logits.double() - logits.double().mean(1, keepdim=True)).norm(dim=1),
}


def small(picture: Image.Image) -> np.ndarray:
    return np.array(picture.convert("RGB").resize((SIZE, SIZE)))


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8[N,32,32,3] to uint8[N,3,32,32]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def altered(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same things seen worse, uint8[N,3,32,32]: nothing strange, as far as the answer goes."""
    grey = images.double().mean(1, keepdim=True).round().to(torch.uint8).expand(-1, 3, -1, -1)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]

    def compressed(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=75)
        return Image.open(file)

    return {
        "test, grey": grey,
        "test, half as bright": images // 2,
        "test, JPEG 75": tensor(np.stack([small(compressed(p)) for p in pictures])),
        "test, from 24 pixels": tensor(np.stack([small(p.resize((24, 24))) for p in pictures])),
        "test, blurred": tensor(np.stack([small(p.filter(ImageFilter.GaussianBlur(1))) for p in pictures])),
    }


def crops(count: int, photographs: list[Image.Image]) -> np.ndarray:
    """Squares of 32 pixels to half a photograph a side, uint8[N,32,32,3]."""
    draw = random.Random(0)

    def crop() -> Image.Image:
        picture = draw.choice(photographs)
        side = draw.randint(SIZE, max(SIZE, min(picture.size) // 2))
        x, y = (draw.randint(0, max(0, length - side)) for length in picture.size)
        return picture.crop((x, y, x + side, y + side))

    return np.stack([small(crop()) for _ in range(count)])


def strange(count: int) -> dict[str, np.ndarray]:
    """Pictures of nothing by kind, uint8[N,32,32,3] each."""
    noise, draw = np.random.default_rng(0), random.Random(0)

    def many(make: Callable[[], Image.Image]) -> np.ndarray:
        return np.stack([small(make()) for _ in range(count)])

    def colour() -> tuple[int, ...]:
        return tuple(draw.randrange(256) for _ in range(3))

    def flat() -> Image.Image:
        return Image.new("RGB", (SIZE, SIZE), colour())

    def checkerboard() -> Image.Image:
        cell, (a, b) = draw.choice((1, 2, 4, 8)), (colour(), colour())
        rows, columns = np.indices((SIZE, SIZE)) // cell
        return Image.fromarray(np.where((rows + columns)[..., None] % 2, a, b).astype(np.uint8))

    def gradient() -> Image.Image:
        ends, down = np.array([colour(), colour()], dtype=float), draw.random() < 0.5
        ramp = np.linspace(0, 1, SIZE)[:, None, None] * np.ones((1, SIZE, 1))
        picture = ends[0] + (ramp if down else ramp.transpose(1, 0, 2)) * (ends[1] - ends[0])
        return Image.fromarray(picture.astype(np.uint8))

    def written() -> Image.Image:
        page = Image.new("RGB", (96, 96), colour() if draw.random() < 0.5 else "white")
        pen, font = ImageDraw.Draw(page), ImageFont.load_default(height := draw.choice((12, 18, 28, 60)))
        for line in range(8):
            words = "".join(draw.choice(string.ascii_letters + string.digits + "  ") for _ in range(14))
            ink = colour() if draw.random() < 0.5 else "black"
            pen.text((2, line * height * 1.1), words, fill=ink, font=font)
        return page

    return {
        "uniform noise": noise.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8),
        "gaussian noise": noise.normal(120, 64, (count, SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8),
        "flat colours": many(flat),
        "gradients": many(gradient),
        "checkerboards": many(checkerboard),
        "text": many(written),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument(
        "--pictures", type=Path, help="folder of photographs to cut crops from, a kind for each subfolder"
    )
    parser.add_argument("--count", type=int, default=2000, help="pictures of each kind")
    parser.add_argument("--data", choices=("cifar10", "cifar10-mini"))
    options = parser.parse_args()

    runtime = runtime_for(EvaluateConfig(device="cpu"), ignore)
    checkpoint, trained = open_network(options.checkpoint, ignore)
    dataset = load_dataset(
        data_options(EvaluateConfig(checkpoint=options.checkpoint), options.data, checkpoint), ignore
    )
    network, normalization = for_inference(trained, runtime), checkpoint.header.normalization
    normalize = Normalizer(normalization.mean, normalization.std, runtime.device)

    def logits_of(images: torch.Tensor) -> torch.Tensor:
        logits = collect_logits(network, EvalBatches(images, inference_rows(runtime.device), normalize))
        assert logits is not None
        return logits

    val_split, test_split = (select_split(dataset, split, checkpoint) for split in ("val", "test"))
    val, test = logits_of(val_split.images), logits_of(test_split.images)
    temperature = fit_temperature(val, val_split.labels)
    print(f"temperature {temperature:.4f}, fitted on {len(val)} validation images")
    for name, t in (("before", 1.0), ("after", temperature)):
        confidence, predicted = probabilities(test, t).max(1)
        ece, _ = calibration(confidence.tolist(), (predicted == test_split.labels).tolist())
        nll, top1 = loss_and_top1(test / t, test_split.labels)
        print(f"{name:7s} {len(test)} test images: top-1 {top1:.2%}  NLL {nll:.4f}  ECE {ece:.2%}")

    kinds = {"test images": test_split.images} | altered(test_split.images[: options.count])
    kinds |= {kind: tensor(pixels) for kind, pixels in strange(options.count).items()}
    if options.pictures is not None:
        for folder in sorted(path for path in options.pictures.iterdir() if path.is_dir()):
            photographs = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
            kinds[f"{folder.name}, crops"] = tensor(crops(options.count, photographs))
            kinds[f"{folder.name}, whole"] = tensor(np.stack([small(picture) for picture in photographs]))
    known = learn_appearance(val_split.images, "val")
    assert known is not None
    least = {name: score(val).sort().values[int(STRANGE_SHARE * len(val))] for name, score in LOGITS.items()}
    print(f"\n{'called strange by':20s}{'n':>6s}  " + "".join(f"{name:>12s}" for name in ("looks", *LOGITS)))
    for kind, images in kinds.items():
        logits = test if kind == "test images" else logits_of(images)
        found = [strangeness(images, known) > known.threshold]
        found += [score(logits) < least[name] for name, score in LOGITS.items()]
        print(f"{kind:20s}{len(images):6d}  " + "".join(f"{float(f.double().mean()):12.1%}" for f in found))


if __name__ == "__main__":
    main()
