"""`compare`: two checkpoints on the same images of one split."""

from __future__ import annotations

from resnetcli.checkpoints.reading import Checkpoint
from resnetcli.config.base import SplitName
from resnetcli.config.commands import CompareConfig
from resnetcli.data.load import load_dataset
from resnetcli.errors import CheckpointError
from resnetcli.events import Notice, OnEvent
from resnetcli.metrics import paired
from resnetcli.results.compare import Compared, CompareResult, DifferentAnswer
from resnetcli.results.evaluate import Answer, EvaluateResult
from resnetcli.services.evaluate import data_options, held_out, measure, select_split
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import open_network, validation_unseen


def compare(config: CompareConfig, *, on_event: OnEvent) -> CompareResult:
    """Measures A and B as `evaluate` does, and holds their answers against each other image by image.

    Both answer the same images: where the split is a part of the training images, the part that A's run made, or B's
    where A's held out none. One that may have been trained on them is named in a notice. Raises CheckpointError,
    DataError, UsageError.
    """
    runtime = runtime_for(config, on_event)
    a, network_a = open_network(config.checkpoint_a, on_event)
    b, network_b = open_network(config.checkpoint_b, on_event)
    _check_classes(a, b)
    dataset = load_dataset(data_options(config, config.data, a, b), on_event)
    owner = a if held_out(a, dataset.name) or not held_out(b, dataset.name) else b
    chosen = select_split(dataset, config.split, owner)
    seen = {name: _may_have_seen(side, owner, config.split, dataset.name) for name, side in (("A", a), ("B", b))}
    for (name, may_have), checkpoint in zip(seen.items(), (a, b), strict=True):
        if may_have:
            text = f"may have been trained on images of this {config.split} split: its accuracy will flatter"
            on_event(Notice(f"{name}, {checkpoint.label}, {text}", warning=True))
    results: list[EvaluateResult] = []
    for name, checkpoint, network in (("A", a, network_a), ("B", b, network_b)):
        result = measure(
            checkpoint,
            network,
            dataset,
            config.split,
            chosen,
            config.tta,
            runtime,
            on_event,
            calibrate=config.calibrate,
            task=f"Evaluating {name}",
        )
        assert result is not None  # nothing was there to stop it
        results.append(result)
    of_a, of_b = results
    return CompareResult(
        a=_side(of_a, seen["A"]),
        b=_side(of_b, seen["B"]),
        data=dataset.name,
        split=config.split,
        tta=config.tta,
        paired=paired(
            classes=dataset.classes,
            labels=[answer.label for answer in of_a.answers],
            a=[answer.predicted for answer in of_a.answers],
            b=[answer.predicted for answer in of_b.answers],
        ),
        differences=tuple(
            _difference(x, y, dataset.classes)
            for x, y in zip(of_a.answers, of_b.answers, strict=True)
            if x.predicted != y.predicted
        ),
        device=of_a.device,
        precision=of_a.precision,
        seconds=of_a.seconds + of_b.seconds,
    )


def _check_classes(a: Checkpoint, b: Checkpoint) -> None:
    names_a, names_b = a.header.class_names, b.header.class_names
    if names_a != names_b:
        (first_a, first_b) = (", ".join(names[:10]) for names in (names_a, names_b))
        raise CheckpointError(
            f"{a.label} knows {len(names_a)} classes ({first_a}), but {b.label} knows {len(names_b)} ({first_b})",
            "compare checkpoints that answer with the same classes in the same order",
        )


def _may_have_seen(checkpoint: Checkpoint, owner: Checkpoint, split: SplitName, data: str) -> bool:
    """Whether nothing in the header rules it out; the test split is never trained on."""
    of = owner.header
    unseen = validation_unseen(checkpoint.header, data, of.val_fraction, of.split_seed) and of.data == data
    return split == "train" or (split == "val" and not unseen)


def _side(result: EvaluateResult, may_have_seen: bool) -> Compared:
    return Compared(
        checkpoint=result.checkpoint,
        chosen_by=result.protocol.chosen_by,
        may_have_seen=may_have_seen,
        top1=result.scores.top1,
        top5=result.scores.top5,
        nll=result.scores.nll,
        ece=result.scores.ece,
        temperature=result.temperature,
    )


def _difference(a: Answer, b: Answer, classes: tuple[str, ...]) -> DifferentAnswer:
    return DifferentAnswer(
        image=a.image,
        label=classes[a.label],
        a=classes[a.predicted],
        b=classes[b.predicted],
        right="A" if a.predicted == a.label else "B" if b.predicted == b.label else None,
    )
