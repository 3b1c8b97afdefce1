"""The commands are thin: everything they do can be called from Python, with typed configs and results.

python examples/from_python.py [FOLDER]     (default: a new temporary folder)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from resnetcli.config.commands import EvaluateConfig, PredictConfig
from resnetcli.config.train import TrainConfig
from resnetcli.events import EpochDone, Event, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.services.evaluate import evaluate
from resnetcli.services.predict import predict
from resnetcli.services.train import train


def show(event: Event) -> None:
    if isinstance(event, EpochDone):
        print(f"epoch {event.row.epoch}: train {event.row.train_top1:.1%}, validation {event.row.val_top1:.1%}")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    config = TrainConfig(
        data="cifar10-mini",
        batch_size=64,
        epochs=3,
        optimizer="muon",
        lr=0.08,
        branch_scale=0.3,
        output_dir=folder,
    )
    run = train(config, stop=StopRequest(), on_event=show)

    measured = evaluate(EvaluateConfig(checkpoint=run.run_dir, data="cifar10-mini"), on_event=ignore)
    top1 = measured.scores.top1
    print(f"test: {top1.value:.1%} (95 %: {top1.low:.1%} to {top1.high:.1%}) of {top1.count} images")

    pictures = str(Path(__file__).parent / "images")
    answers = predict(
        PredictConfig(paths=(pictures,), checkpoint=run.run_dir, top_k=1),
        stdin=None,
        on_event=ignore,
        on_prediction=None,
    )
    for prediction in answers.predictions:
        print(f"{Path(prediction.path).name:16s} {prediction.guesses[0].label} {prediction.guesses[0].probability:.0%}")


if __name__ == "__main__":
    main()
