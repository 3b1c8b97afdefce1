"""Packages a checkpoint as `pretrained`, and makes its model card from measurements.

    python examples/model_card.py RUN [--dtype fp16]   stores RUN rounded, measures it beside RUN, writes the card
    python examples/model_card.py                      measures the packaged file anew, and writes the card
    python examples/model_card.py --text               writes the card anew from the measurements that are there
    python examples/model_card.py --check              exits with 1 where file, measurements and card do not agree

RUN is a run directory or any other checkpoint; of a run directory the training time is known too. The three files lie
in resnetcli/weights: `pretrained.safetensors`, `pretrained.json` (digest and measurements) and `pretrained.md`, in
which no number is typed by hand. It takes three measurements of 10,000 images, or one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import ModelHeader, entry_for, read_own_header
from resnetcli.checkpoints.packaged import FOLDER, Packaged, packaged_file, read_about
from resnetcli.checkpoints.reading import open_checkpoint
from resnetcli.cli.recipes import read_recipe, recipe_names
from resnetcli.config.base import PRETRAINED
from resnetcli.config.commands import CompareConfig, EvaluateConfig
from resnetcli.config.train import TrainConfig
from resnetcli.data.batches import EvalBatches, Normalizer
from resnetcli.data.cifar10 import SHA256
from resnetcli.data.load import load_dataset
from resnetcli.engine.calibration import FOLDS, judged
from resnetcli.engine.evaluate import collect_logits, inference_rows
from resnetcli.engine.runtime import processor_name, versions
from resnetcli.errors import ResnetCliError
from resnetcli.events import OnEvent, ignore
from resnetcli.reporting import text
from resnetcli.reporting.console import stderr
from resnetcli.reporting.observers import observer
from resnetcli.results.base import Interval
from resnetcli.results.checkpoints import SIGNIFICANT, Ancestor, Calibration, earned
from resnetcli.results.compare import CompareResult
from resnetcli.results.evaluate import Scores
from resnetcli.services.checkpoints import NORMALIZATION, export
from resnetcli.services.compare import compare
from resnetcli.services.evaluate import data_options, evaluate, select_split
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import for_inference, open_network, validation_unseen

MAX_BYTES = 20_000_000
SCALE = 10.0
"""Larger convolutions give the same answers, and are kinder to whoever trains on from them: see `rescale`."""
CHOSEN_BY = {
    "val": "The epoch with the best accuracy on the validation images was taken.",
    "none": "Nothing was chosen: these are the weights of the last epoch.",
    "user": "This checkpoint was named by hand.",
    "unknown": "Unknown: the file does not say.",
}
TRAINING_IMAGES = 50_000
WIDTH = 110


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", metavar="RUN", help="what to package")
    parser.add_argument("--dtype", choices=("fp16", "bf16"), default="fp16", help="how weights are stored [fp16]")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--text", action="store_true", help="only write the card anew, without measuring")
    only.add_argument("--check", action="store_true", help="only hold the three files against each other")
    given = parser.parse_args()
    if given.run and (given.text or given.check):
        parser.error("--text and --check go by what is packaged: leave out RUN")
    try:
        if given.check:
            check()
            return
        if given.text:
            write_card()
            return
        if given.run:
            check_unseen(given.run)
            export(given.run, packaged_file(PRETRAINED), force=True, dtype=given.dtype, scale=SCALE)
        measure(given.run)
    except ResnetCliError as error:
        sys.exit(f"error: {error.message}\n{error.hint}")
    print(f"wrote {FOLDER / PRETRAINED}.safetensors, .json and .md")


def check_unseen(run: str) -> None:
    """Exits with 1 where the card's figures of the validation images would flatter."""
    header = open_checkpoint(run, NORMALIZATION).header
    if not validation_unseen(header, str(header.data), header.val_fraction, header.split_seed):
        sys.exit(f"{run}: its validation images may be known to what it started from")


def measure(run: str | None) -> None:
    """Measures the packaged file, beside `run` if there is one, and writes what was found and the card."""
    file = entry_for(packaged_file(PRETRAINED))
    if file.size >= MAX_BYTES:
        sys.exit(f"{file.size:,} bytes are too many to package: the limit is {MAX_BYTES:,}")
    kept = {} if run else {name: read_about(PRETRAINED).card.get(name) for name in ("rounding", "training")}
    if not run and not kept["rounding"]:
        sys.exit("the last measurement was cut short: name RUN again")
    about = Packaged(file=file, metrics={}, card=dict(kept))
    write(about)  # it can be opened by its name from here on
    with observer(stderr()) as on_event:
        about = about.model_copy(update={"calibration": judge(on_event)})
        write(about)
        measured = evaluate(EvaluateConfig(), on_event=on_event)
        if run:
            sides = CompareConfig(checkpoint_a=run, checkpoint_b=PRETRAINED, calibrate=False)
            pair = compare(sides, on_event=on_event)
            kept = {"rounding": rounding(pair) | {"scale": SCALE}, "training": training(Path(run))}
    card = {
        **kept,
        "evaluation": measured.model_dump(mode="json", exclude={"files", "seconds", "images_per_s"}),
        "versions": versions(runtime_for(EvaluateConfig(), ignore)),
        "processor": processor_name(),
    }
    scores = measured.scores
    metrics = {"test_top1": scores.top1.value, "test_top5": scores.top5.value, "test_nll": scores.nll}
    write(about.model_copy(update={"metrics": metrics, "card": json.loads(json.dumps(card))}))
    write_card()


def judge(on_event: OnEvent) -> Calibration | None:
    """The temperature in the header, with what the validation images of its run gain when they are held out of the fit;
    None where there is none, or where the run has judged it. No test image has a say."""
    known = read_own_header(packaged_file(PRETRAINED), ModelHeader).calibration
    if known is None or known.gain is not None:
        return None
    runtime = runtime_for(EvaluateConfig(), on_event)
    checkpoint, trained = open_network(PRETRAINED, on_event)
    normalization = checkpoint.header.normalization
    dataset = load_dataset(data_options(EvaluateConfig(), None, checkpoint), on_event)
    val = select_split(dataset, "val", checkpoint)
    normalize = Normalizer(normalization.mean, normalization.std, runtime.device)
    batches = EvalBatches(val.images, inference_rows(runtime.device), normalize)
    logits = collect_logits(for_inference(trained, runtime), batches)
    assert logits is not None  # nothing stops it
    return judged(known, logits, val.labels)


def write_card() -> None:
    """Writes the card."""
    storage.write_file(FOLDER / f"{PRETRAINED}.md", card_text().encode())


def write(about: Packaged) -> None:
    """Writes the measurements."""
    storage.write_file(FOLDER / f"{PRETRAINED}.json", (about.model_dump_json(indent=1) + "\n").encode())


def rounding(pair: CompareResult) -> dict[str, Any]:
    """What the card says of both sides; not where the original lies."""
    sides = {
        name: side.model_dump(mode="json", exclude={"checkpoint"}) for name, side in (("a", pair.a), ("b", pair.b))
    }
    paired = pair.paired.model_dump(mode="json", exclude={"classes"})
    return {**sides, "paired": paired, "difference_interval": pair.difference_interval}


def training(run: Path) -> dict[str, Any] | None:
    """Epochs and seconds of a run directory; None of anything else."""
    try:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    except OSError:
        return None
    return {"epochs": len(rows), "seconds": sum(row["seconds"] for row in rows)}


def check() -> None:
    """Exits with 1 where the digest, the card or the recorded accuracy is not that of the packaged file."""
    about = read_about(PRETRAINED)
    if entry_for(packaged_file(PRETRAINED)) != about.file:
        sys.exit("pretrained.safetensors is not the file that was measured: run examples/model_card.py")
    if (FOLDER / f"{PRETRAINED}.md").read_text("utf-8") != card_text():
        sys.exit("pretrained.md is not what the measurements say: run examples/model_card.py")


def card_text() -> str:
    """The model card of the packaged file, from its header and from its measurements alone."""
    about = read_about(PRETRAINED)
    header = read_own_header(packaged_file(PRETRAINED), ModelHeader)
    found: dict[str, Any] = about.card
    evaluation = found["evaluation"]
    scores = Scores.model_validate(evaluation["scores"])
    parts = [
        _summary(header, scores),
        _data(),
        _training(header, found["training"]),
        _protocol(header, scores, evaluation),
        _accuracy(scores),
        _calibration(scores, evaluation, about.calibration),
        _rounding(header, found["rounding"]),
        _limits(scores),
        _file(header, about, found),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _summary(header: ModelHeader, scores: Scores) -> str:
    what = _prose(
        "The weights that come with resnetcli: the simplified ResNet-50 for 32×32 images with",
        f"{header.architecture.shortcut} shortcuts, trained on CIFAR-10. Top-1 accuracy on its 10,000 test images,",
        f"single view: **{_share(scores.top1)}**.",
    )
    made = _prose(
        "Every number here is made by `python examples/model_card.py` from the file's header and from measurements of",
        "this very file, which stand in `pretrained.json`.",
    )
    return f"""
# `pretrained`

{what}

```
resnetcli predict photo.jpg
resnetcli evaluate
resnetcli inspect
```

{made}"""


def _data() -> str:
    what = _prose(
        "CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of ten classes. These are the SHA-256 of",
        "the six batches in the official binary layout, against which the tool holds the images at every loading:",
    )
    return f"""
## Data

{what}

{_table(("batch", "sha256"), ((name, f"`{digest}`") for name, digest in SHA256.items()))}"""


def _training(header: ModelHeader, spent: dict[str, Any] | None) -> str:
    time = ""
    if spent is not None:
        which = "That" if header.lineage else "Training"
        time = f"{which} took {text.duration(spent['seconds'])} for {spent['epochs']} epochs, validation not counted."
    what = _prose(
        f"The weights are those after epoch {header.epoch:g} of {header.config['epochs']}, step {header.step:,}; one",
        f"run{', the last of a line' if header.lineage else ', one seed'}. {time} On: {_named(header.versions)}.",
    )
    settings = _table(("setting", "value"), ((f"`{name}`", f"{value}") for name, value in header.config.items()))
    came_from = map(_ancestor, header.lineage)
    return "\n\n".join(("## Recipe", _block(command(header.config)), what, *came_from, "All settings:", settings))


def _ancestor(of: Ancestor) -> str:
    """What the training that was told of last started from."""
    what = f"It started from weights then called `{of.name}` (sha256 `{of.sha256}`)"
    if of.epoch is None or not of.config:
        return _prose(f"{what}.")
    return f"{_prose(f'{what}, the weights after epoch {of.epoch:g} of this:')}\n\n{_block(command(of.config))}"


def _block(line: str) -> str:
    return f"```\n{line}\n```"


def command(config: dict[str, object]) -> str:
    """The command line that has these settings: whatever the recipe and the defaults do not say."""
    recipe = str(config.get("recipe", TrainConfig().recipe))
    usual: dict[str, object] = TrainConfig().model_dump(mode="json") | {"recipe": recipe}
    if recipe in recipe_names():
        usual |= read_recipe(recipe).values
    words = (
        ["resnetcli train"] if recipe == TrainConfig().recipe else [f"resnetcli train --recipe {shlex.quote(recipe)}"]
    )
    extensions = config.get("extensions")
    steps: list[str] = []
    if isinstance(extensions, list) and extensions:
        plans = [*(extension["epochs"] for extension in extensions), config["epochs"]]
        config = config | {"epochs": plans[0]}
        for extension, epochs in zip(extensions, plans[1:], strict=True):
            at = f"{extension['epoch']} epochs" + (f" and {extension['step']} steps" if extension["step"] else "")
            policy = extension["policy"]
            steps.append(f"resnetcli train --resume RUN --epochs {epochs} --extend {policy}   # after {at}")
    for name, value in config.items():
        if name == "extensions" or value is None or value == usual.get(name) or (name, value) == ("device", "cpu"):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{flag}")
        else:
            words.append(f"--{flag} {shlex.quote(str(value))}")
    return "\n".join([" ".join(words), *steps])


def _protocol(header: ModelHeader, scores: Scores, evaluation: dict[str, Any]) -> str:
    fraction, protocol = header.val_fraction or 0.0, evaluation["protocol"]
    kept = TRAINING_IMAGES - round(TRAINING_IMAGES * fraction)
    split = f"{kept:,} training images"
    if fraction:
        split += f"; {TRAINING_IMAGES - kept:,} others, stratified and drawn with seed {header.split_seed}, validated"
    val = header.metrics.get("val_top1")
    what = _prose(
        f"{'The last run trained' if header.lineage else 'Trained'} on {split}. {CHOSEN_BY[header.chosen_by]}",
        "" if val is None else f"Accuracy on the validation images: {text.percent(val)}.",
        f"Measured on the {protocol['split']} split of {protocol['data']}, which chose nothing, neither epoch nor",
        f"setting: {scores.images:,} images, one view of each, in {evaluation['precision']}. Intervals are",
        f"{protocol['interval']}; they speak of the choice of test images, not of that of the seed.",
    )
    return f"""
## Protocol

{what}"""


def _accuracy(scores: Scores) -> str:
    names = [score.name for score in scores.classes]
    rows = []
    for index, score in sorted(enumerate(scores.classes), key=lambda item: item[1].accuracy.value):
        wrong = {i: count for i, count in enumerate(scores.confusion[index]) if i != index}
        other = max(wrong, key=lambda i: wrong[i])
        rows.append(
            (
                score.name,
                text.percent(score.accuracy.value),
                text.interval(score.accuracy),
                "–" if score.precision is None else text.percent(score.precision),
                "–" if score.f1 is None else text.percent(score.f1),
                f"{names[other]} ({wrong[other]})" if wrong[other] else "–",
            )
        )
    header = ("class", "accuracy", "95 % interval", "precision", "F1", "most often taken for")
    return f"""
## Accuracy

{_table(("", ""), (("top-1", _share(scores.top1)), ("top-5", _share(scores.top5))))}

Classes, worst first; the accuracy of a class is its recall, over {scores.classes[0].support:,} images each:

{_table(header, rows)}"""


def _calibration(scores: Scores, evaluation: dict[str, Any], known: Calibration | None) -> str:
    temperature, bare = evaluation.get("temperature"), evaluation.get("uncalibrated")
    note = "Probabilities are the softmax of the logits as they are."
    if known is not None and not earned(known):
        note += (
            f" The header has a temperature of {known.temperature:.3f}, fitted on {known.images:,} validation images. "
            f"It is not used: held out of the fit ({FOLDS} folds), these images gain {known.gain:.4f} ± "
            f"{known.gain_error:.4f} nats, and more than {SIGNIFICANT:g} standard errors are asked for."
        )
    if temperature is not None:
        note = f"Logits are divided by the temperature {temperature:.3f}, which the header carries, before the softmax."
        if bare is not None:
            note += f" Without it: NLL {bare['nll']:.4f}, ECE {text.percent(bare['ece'])}."
    what = _prose(
        f"NLL {scores.nll:.4f} nats per image, ECE {text.percent(scores.ece)} in {len(scores.calibration)} bins.", note
    )
    rows = (
        (
            f"{b.low:.2f}–{b.high:.2f}",
            text.count(b.count),
            text.percent(b.confidence, 1),
            text.percent(b.accuracy, 1),
        )
        for b in scores.calibration
        if b.count
    )
    return f"""
## Calibration

{what}

{_table(("top probability", "images", "its mean", "right"), rows)}"""


def _rounding(header: ModelHeader, pair: dict[str, Any]) -> str:
    paired, difference = pair["paired"], pair["paired"]["difference"]
    assert header.rounded is not None  # `main` packages nothing else
    scaled = ""
    if (scale := pair.get("scale", 1)) != 1:
        scaled = (
            f"Convolutions are {scale:g} times as large as they were, BatchNorm's statistics match them: no "
            "answer changes, and Adam, whose steps have a fixed size, trains on from them the more gently."
        )
    divided = ""
    if (temperature := pair["a"]["temperature"]) is not None:
        divided = f", logits of both divided by {temperature:.3f}"
    before = _prose(
        f"Convolutions and head are stored in {header.rounded.dtype} and computed in float32; BatchNorm is stored in",
        f"float32. {scaled}",
        f"The largest error of a weight is {header.rounded.largest_error:.2g}. On the same images,",
        f"when they were packaged{divided}:",
    )
    after = _prose(
        f"Only the former is right on {paired['only_a']} images, only the latter on {paired['only_b']}",
        f"(McNemar, mid-p: {text.p_value(paired['p'])}): {text.points(difference['value'])} points, from",
        f"{text.points(difference['low'])} to {text.points(difference['high'])} ({pair['difference_interval']}).",
    )
    rows = (
        (name, _share(Interval(**side["top1"])), f"{side['nll']:.4f}", text.percent(side["ece"]))
        for name, side in (("as trained", pair["a"]), ("as stored", pair["b"]))
    )
    return f"""
## Rounding

{before}

{_table(("weights", "top-1", "NLL", "ECE"), rows)}

{after}"""


def _limits(scores: Scores) -> str:
    worst = min(scores.classes, key=lambda score: score.accuracy.value).name
    limits = (
        "It knows ten classes and answers with one of them whatever the picture shows. A picture of something else "
        "gets an answer too, which can be a confident one.",
        "It sees 32×32 pixels. A photograph is squeezed to that, and something small in it is lost.",
        "Its accuracy is that on CIFAR-10, whose test images were collected and labelled together with its training "
        "images, and some of which nearly repeat one of these (Barz and Denzler 2020). Expect less of your own "
        "pictures: measure it.",
        f"Classes differ, and {worst} is the worst: where one of them matters, read the table, not the overall figure.",
        "It is made for learning about training and measuring. Nobody's safety, health or rights should hang on it.",
    )
    lines = (textwrap.fill(limit, WIDTH, initial_indent="- ", subsequent_indent="  ") for limit in limits)
    return "## Limits\n\n" + "\n".join(lines)


def _file(header: ModelHeader, about: Packaged, found: dict[str, Any]) -> str:
    rows = (
        ("file", f"`{PRETRAINED}.safetensors`"),
        ("sha256", f"`{about.file.sha256}`"),
        ("size", f"{about.file.size:,} bytes"),
        ("training began", str(header.created)),
        ("measured on", f"{found['processor']}; {_named(found['versions'])}"),
    )
    what = _prose(
        "Digest and size are checked whenever the weights are loaded. `resnetcli checkpoints show pretrained` shows",
        "the header, `resnetcli evaluate` measures again.",
    )
    return f"""
## File

{_table(("", ""), rows)}

{what}"""


def _prose(*parts: str) -> str:
    """One paragraph."""
    words = " ".join(" ".join(parts).split())
    return textwrap.fill(words, WIDTH, break_long_words=False, break_on_hyphens=False)


def _named(versions_: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions_.items())


def _share(value: Interval) -> str:
    return f"{text.percent(value.value)} ({text.interval(value)})"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
