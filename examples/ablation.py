"""What each technique brings: short trainings that differ from a recipe in one thing, compared on validation images.

    python examples/ablation.py FOLDER [--recipe fast] [--epochs N] [--seeds N] [--only TEXT] [--data cifar10-mini]

Every row is a run of its own, on the same 45,000 images, measured on the same 5,000; the test images stay unread. Runs
that FOLDER holds already are not repeated, and one that was cut off goes on where it stopped, so the command can be
given again. Prints the table as Markdown and leaves it in FOLDER/ablation.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

from resnetcli.cli.recipes import read_recipe
from resnetcli.config.train import TrainConfig
from resnetcli.errors import Interrupted, ResnetCliError
from resnetcli.events import EpochDone, Event, Notice
from resnetcli.interrupts import StopRequest
from resnetcli.reporting.text import percent, plural
from resnetcli.results.train import TrainResult
from resnetcli.services.train import resume, train

ROWS: dict[str, dict[str, object]] = {
    "the recipe": {},
    "SGD (lr 0.2, a warm-up epoch) for Muon": {"optimizer": "sgd", "lr": 0.2, "warmup_epochs": 1},
    "Adam (lr 0.003)": {"optimizer": "adam", "lr": 0.003},
    "AdamW (lr 0.003, weight decay 0.05)": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.05},
    "first BatchNorm scale of a branch's end 1": {"branch_scale": 1.0},
    "no Lookahead": {"lookahead": 0},
    "moving average (0.99) for Lookahead": {"lookahead": 0, "ema": 0.99},
    "no label smoothing": {"label_smoothing": 0.0},
    "BatchNorm's biases at 8 times the rate": {"bias_lr_scale": 8.0},
    "weight decay 0.005 (stem and head)": {"weight_decay": 0.005},
    "cosine schedule": {"schedule": "cosine"},
    "a warm-up epoch": {"warmup_epochs": 1.0},
    "no crop": {"crop_padding": 0},
    "crop padding 4": {"crop_padding": 4},
    "zeros around the crop": {"padding_mode": "zero"},
    "no flip": {"flip": False},
    "flip by chance": {"alternating_flip": False},
    "TrivialAugment": {"augment": "trivial"},
    "random erasing 0.25": {"erasing": 0.25},
    "cutout 8": {"cutout": 8},
    "mixup 0.2": {"mixup": 0.2},
    "CutMix 1": {"cutmix": 1.0},
    "full size from the start": {"start_size": 32},
    "24 pixels in the first half": {"start_size": 24, "start_size_until": 0.5},
}
"""What is changed in each row; "the recipe" is what the others are compared with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--epochs", type=int, default=0, help="epochs of a run (default: those of the recipe)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="only rows that contain this, beside the recipe itself")
    parser.add_argument("--data", default="cifar10")
    options = parser.parse_args()

    recipe = read_recipe(options.recipe).values | {
        "recipe": options.recipe,
        "data": options.data,
        "output_dir": options.folder,
    }
    recipe |= {"val_fraction": 0.1, "measure_on": "val"} | ({"epochs": options.epochs} if options.epochs else {})
    whole = TrainConfig.model_validate(recipe)
    measured: dict[str, list[tuple[float, float]]] = {}
    stop = StopRequest()
    stop.install()
    try:
        for seed in range(options.seeds):
            for row, change in ROWS.items():
                config = TrainConfig.model_validate(recipe | change | {"seed": seed, "name": _name(row, seed)})
                if row != "the recipe" and (options.only not in row or _same(config, whole)):
                    continue
                measured.setdefault(row, []).append(_measure(config, stop))
                (options.folder / "ablation.md").write_text(_table(measured, whole), encoding="utf-8")
    except (ResnetCliError, Interrupted) as error:
        sys.exit(f"{error.message} {error.hint}")
    print(_table(measured, whole))


def _same(a: TrainConfig, b: TrainConfig) -> bool:
    """Whether they differ in nothing but seed and name: the change is what the recipe does anyway."""
    return a.model_dump(exclude={"seed", "name"}) == b.model_dump(exclude={"seed", "name"})


def _name(row: str, seed: int) -> str:
    return f"{'-'.join(''.join(c if c.isalnum() else ' ' for c in row).split())}-seed-{seed}"


def _measure(config: TrainConfig, stop: StopRequest) -> tuple[float, float]:
    """Validation accuracy and seconds of training, of a run that is there, half there or not there yet."""
    assert config.name is not None
    run = config.output_dir / config.name
    done = run / "measured.json"
    if not done.exists():
        result = resume(run, {}, stop=stop, on_event=_say) if run.exists() else train(config, stop=stop, on_event=_say)
        done.write_text(json.dumps(_figures(result)), encoding="utf-8")
    top1, seconds = json.loads(done.read_text(encoding="utf-8"))
    return float(top1), float(seconds)


def _figures(result: TrainResult) -> tuple[float, float]:
    assert result.measured is not None
    return result.measured.scores.top1.value, result.train_seconds


def _say(event: Event) -> None:
    if isinstance(event, EpochDone):
        row = event.row
        print(
            f"  epoch {row.epoch}: train {percent(row.train_top1)}, validation {percent(row.val_top1)}", file=sys.stderr
        )
    elif isinstance(event, Notice):
        print(f"  {event.text}", file=sys.stderr)


def _table(measured: dict[str, list[tuple[float, float]]], config: TrainConfig) -> str:
    """Markdown: validation top-1 of each row (mean over seeds), its distance from the recipe, and its time."""
    (base, *_), seeds = measured.values(), max(map(len, measured.values()))
    reference = mean(top1 for top1, _ in base)
    lines = [
        f"Recipe `{config.recipe}`, {plural(config.epochs, 'epoch')}, {plural(seeds, 'seed')} a row.",
        "",
        "| change | validation top-1 | points | training |",
        "|---|---|---|---|",
    ]
    for row, runs in measured.items():
        top1, seconds = (mean(column) for column in zip(*runs, strict=True))
        points = "–" if row == "the recipe" else f"{100 * (top1 - reference):+.2f}"
        lines.append(f"| {row} | {percent(top1)} | {points} | {seconds:.0f} s |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
