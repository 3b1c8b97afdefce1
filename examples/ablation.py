"""What each technique brings: short trainings that differ from a recipe in one thing, compared on validation images.

    python examples/ablation.py FOLDER [--recipe fast] [--epochs N] [--seeds N] [--only TEXT] [--data cifar10-mini]

Every row is a run of its own, on the same 45,000 images, measured on the same 5,000; the test images stay unread. Runs
that FOLDER holds already are not repeated, and one that was cut off goes on where it stopped, so the command can be
given again; with other settings it needs another FOLDER. Prints the table as Markdown and leaves it in
FOLDER/ablation.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from resnetcli.checkpoints.manager import is_run
from resnetcli.cli.recipes import read_recipe
from resnetcli.config.train import RESUMABLE, TrainConfig
from resnetcli.errors import Interrupted, ResnetCliError, UsageError
from resnetcli.events import EpochDone, Event, Notice
from resnetcli.interrupts import StopRequest
from resnetcli.metrics import paired
from resnetcli.reporting.text import percent, plural
from resnetcli.services.train import read_config, resume, train

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


@dataclass(frozen=True)
class Measured:
    """What one run came to: its accuracy, and the label and the answer of each validation image."""

    top1: float
    answers: list[tuple[int, int]]


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
    measured: dict[str, list[Measured]] = {}
    stop = StopRequest()
    stop.install()
    try:
        for seed in range(options.seeds):
            for row, change in ROWS.items():
                config = TrainConfig.model_validate(recipe | change | {"seed": seed, "name": _name(row, seed)})
                wanted = row == "the recipe" or (options.only in row and not _same(config, whole))
                if wanted or _run_of(config).exists():
                    measured.setdefault(row, []).append(_measure(config, stop))
                (options.folder / "ablation.md").write_text(_table(measured, whole), encoding="utf-8")
    except (ResnetCliError, Interrupted) as error:
        sys.exit(f"{error.message} {error.hint}")
    print(_table(measured, whole))


def _same(a: TrainConfig, b: TrainConfig) -> bool:
    """Whether they give the same weights, but for the seed."""
    other = {*RESUMABLE, "seed", "name", "output_dir", "precision"}
    return a.model_dump(exclude=other) == b.model_dump(exclude=other)


def _run_of(config: TrainConfig) -> Path:
    assert config.name is not None
    return config.output_dir / config.name


def _name(row: str, seed: int) -> str:
    return f"{'-'.join(''.join(c if c.isalnum() else ' ' for c in row).split())}-seed-{seed}"


def _measure(config: TrainConfig, stop: StopRequest) -> Measured:
    """The answers of a run that is there, half there or not there yet. Raises UsageError where it is another's."""
    run = _run_of(config)
    if is_run(run) and not _same(then := read_config(run), config):
        hint = "choose another folder for other settings"
        raise UsageError(
            f"{run} was trained with other settings (recipe {then.recipe}, {plural(then.epochs, 'epoch')})", hint
        )
    done = run / "measured.json"
    if not done.exists():
        result = resume(run, {}, stop=stop, on_event=_say) if is_run(run) else train(config, stop=stop, on_event=_say)
        assert result.measured is not None
        answers = result.measured.answers
        measured = Measured(result.measured.scores.top1.value, [(a.label, a.predicted) for a in answers])
        done.write_text(json.dumps(asdict(measured)), encoding="utf-8")
    return Measured(**json.loads(done.read_text(encoding="utf-8")))


def _say(event: Event) -> None:
    if isinstance(event, EpochDone):
        row = event.row
        print(
            f"  epoch {row.epoch}: train {percent(row.train_top1)}, validation {percent(row.val_top1)}", file=sys.stderr
        )
    elif isinstance(event, Notice):
        print(f"  {event.text}", file=sys.stderr)


def _table(measured: dict[str, list[Measured]], config: TrainConfig) -> str:
    """Markdown: validation top-1 of each row (mean over seeds) and its distance from the recipe."""
    (base, *_), seeds = measured.values(), max(map(len, measured.values()))
    if seeds == 1:
        spread = "95 % interval for these images (Tango score), which says nothing of other seeds"
    else:
        spread = "± standard deviation over seeds of the row"
    lines = [
        f"Recipe `{config.recipe}`, {plural(config.epochs, 'epoch')}, {plural(seeds, 'seed')} a row; "
        f"{len(base[0].answers):,} validation images. Points: row minus recipe; {spread}.",
        "",
        "| change | validation top-1 | points |",
        "|---|---|---|",
    ]
    for row, runs in measured.items():
        top1 = mean(run.top1 for run in runs)
        points = "–" if row == "the recipe" else _points(base[: len(runs)], runs)
        lines.append(f"| {row} | {percent(top1)} | {points} |")
    return "\n".join(lines) + "\n"


def _points(base: list[Measured], runs: list[Measured]) -> str:
    """By how much `runs` are better, with the interval or the spread that the number of seeds allows."""
    difference = 100 * (mean(run.top1 for run in runs) - mean(run.top1 for run in base))
    if len(runs) > 1:
        return f"{difference:+.2f} ± {100 * stdev(run.top1 for run in runs):.2f}"
    labels, answers = zip(*runs[0].answers, strict=True)
    found = paired(
        classes=[str(label) for label in range(max(labels) + 1)],
        labels=labels,
        a=[predicted for _, predicted in base[0].answers],
        b=answers,
    ).difference
    return f"{difference:+.2f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


if __name__ == "__main__":
    main()
