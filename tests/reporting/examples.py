"""Result objects that the tests of reporting draw. The figures are invented, but add up."""

from __future__ import annotations

import random

from resnetcli.metrics import paired, scores, wilson
from resnetcli.results.bench import BenchResult, FirstEpochs, Machine, Spread
from resnetcli.results.checkpoints import (
    Ancestor,
    Calibration,
    ChangedVersion,
    CheckpointInfo,
    CheckpointProblem,
    CheckpointsResult,
    FileInfo,
    ReplayedPart,
    ReplayResult,
)
from resnetcli.results.compare import Compared, CompareResult, DifferentAnswer
from resnetcli.results.data import BatchCheck, DataResult
from resnetcli.results.evaluate import EvaluateResult, Protocol, Scores, Uncalibrated
from resnetcli.results.inspect import InspectResult, LayerRow
from resnetcli.results.predict import Guess, Prediction, PredictResult
from resnetcli.results.train import CurveNotes, DryRunResult, EpochRow, TrainResult

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def ten_class_scores(images: int = 10_000) -> Scores:
    """Answers that are right about five times in six, and otherwise often off by two classes, as cat and dog are."""
    draw = random.Random(0)
    labels = [i % 10 for i in range(images)]
    right = [draw.random() < (0.92, 0.93, 0.75, 0.62, 0.8, 0.72, 0.9, 0.88, 0.93, 0.9)[label] for label in labels]
    near = [draw.random() < 0.5 for _ in labels]
    other = [draw.randrange(10) for _ in labels]
    predicted = [
        label if ok else (label + 2) % 10 if close else guess
        for label, ok, close, guess in zip(labels, right, near, other, strict=True)
    ]
    confidence = [draw.betavariate(8, 1.2) if ok else draw.betavariate(4, 3) for ok in right]
    return scores(
        classes=CLASSES,
        labels=labels,
        predicted=predicted,
        in_top5=[a == b or draw.random() < 0.93 for a, b in zip(labels, predicted, strict=True)],
        confidence=confidence,
        true_probability=[p if a == b else (1 - p) / 3 for p, a, b in zip(confidence, labels, predicted, strict=True)],
    )


def evaluate_result(files: tuple[str, ...] = ()) -> EvaluateResult:
    return EvaluateResult(
        checkpoint="runs/fast-1/checkpoints/step-0000880",
        protocol=Protocol(data="cifar10", split="test", chosen_by="val", tta="none"),
        scores=ten_class_scores(),
        temperature=0.8312,
        uncalibrated=Uncalibrated(nll=0.4833, ece=0.1052),
        device="cpu",
        precision="fp32",
        seconds=12.34,
        images_per_s=810.4,
        files=files,
    )


def compare_result(files: tuple[str, ...] = (), *, gain: float = 0.84, may_have_seen: bool = False) -> CompareResult:
    """A is right five times in six; B repeats it nine times in ten, and is otherwise right with a chance of `gain`."""
    draw = random.Random(1)
    labels = [i % 10 for i in range(10_000)]
    a = [label if draw.random() < 0.84 else (label + 2) % 10 for label in labels]
    b = [
        first if draw.random() < 0.9 else label if draw.random() < gain + 0.01 * label else (label + 5) % 10
        for first, label in zip(a, labels, strict=True)
    ]

    def side(run: str, answers: list[int], seen: bool) -> Compared:
        right = sum(x == label for x, label in zip(answers, labels, strict=True))
        return Compared(
            checkpoint=f"runs/{run}/checkpoints/step-0000880",
            chosen_by="val",
            may_have_seen=seen,
            top1=wilson(right, len(labels)),
            top5=wilson(9_900, len(labels)),
            nll=0.4812,
            ece=0.0312,
            temperature=0.8312 if run == "fast-1" else None,
        )

    return CompareResult(
        a=side("fast-1", a, False),
        b=side("fast-2", b, may_have_seen),
        data="cifar10",
        split="val" if may_have_seen else "test",
        tta="none",
        paired=paired(classes=CLASSES, labels=labels, a=a, b=b),
        differences=tuple(
            DifferentAnswer(
                image=image,
                label=CLASSES[label],
                a=CLASSES[x],
                b=CLASSES[y],
                right="A" if x == label else "B" if y == label else None,
            )
            for image, (label, x, y) in enumerate(zip(labels, a, b, strict=True))
            if x != y
        ),
        device="cpu",
        precision="fp32",
        seconds=24.68,
        files=files,
    )


def history(epochs: int = 5) -> tuple[EpochRow, ...]:
    return tuple(
        EpochRow(
            epoch=epoch,
            step=88 * epoch,
            train_loss=2.1 / epoch**0.7,
            train_top1=0.9 - 0.6 / epoch,
            val_loss=2.0 / epoch**0.6,
            val_top1=0.87 - 0.5 / epoch,
            lr=0.1 * (1 - epoch / (epochs + 1)),
            images_per_s=1234.5,
            seconds=36.4,
            memory_mib=512.25,
        )
        for epoch in range(1, epochs + 1)
    )


def train_result(epochs: int = 5) -> TrainResult:
    return TrainResult(
        run_dir="runs/fast-1",
        checkpoint="runs/fast-1/checkpoints/step-0000880",
        epochs=epochs,
        steps=88 * epochs,
        stopped="finished",
        train_seconds=182.0,
        history=history(epochs),
        measured=evaluate_result(),
        notes=curve_notes(),
    )


def curve_notes(*, small_epochs: int = 2, train_loss_with: tuple[str, ...] = ("label smoothing 0.2",)) -> CurveNotes:
    return CurveNotes(run="fast-1", size=32, start_size=24, small_epochs=small_epochs, train_loss_with=train_loss_with)


def checkpoint_info() -> CheckpointInfo:
    return CheckpointInfo(
        path="runs/fast-1/checkpoints/step-0000880",
        kind="checkpoint",
        step=880,
        epoch=10.0,
        created="2026-11-02T10:11:12Z",
        recipe="fast",
        data="cifar10",
        chosen_by="val",
        metrics={"val_top1": 0.8341, "val_loss": 0.51234},
        calibration=Calibration(temperature=0.8312, images=5_000),
        strangeness_threshold=4.534,
        class_names=CLASSES,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.247, 0.2435, 0.2616),
        versions={"resnetcli": "0.1.0", "torch": "2.10.0"},
        lineage=(
            Ancestor(
                name="hour",
                sha256="89ab" * 16,
                recipe="balanced",
                epoch=107,
                data="cifar10",
                val_fraction=0.02,
                split_seed=0,
            ),
            Ancestor(name="start.safetensors", sha256="cdef" * 16, origin="resnet50_epoch285.ckpt"),
        ),
        files=(
            FileInfo(name="model.safetensors", size=35_600_000, sha256="0123456789abcdef" * 4),
            FileInfo(name="trainer.safetensors", size=71_200_000, sha256="fedcba9876543210" * 4),
        ),
        best=True,
        last=True,
    )


def checkpoints_result() -> CheckpointsResult:
    older = checkpoint_info().model_copy(
        update={
            "path": "runs/fast-1/checkpoints/step-0000440",
            "step": 440,
            "epoch": 5.0,
            "best": False,
            "last": False,
        }
    )
    return CheckpointsResult(
        command="checkpoints list",
        checkpoints=(older, checkpoint_info()),
        problems=(
            CheckpointProblem(path="runs/fast-1/checkpoints/step-0000704", message="model.safetensors is short"),
        ),
    )


def inspect_result() -> InspectResult:
    """Half of a network: a stem, a stage of two blocks and a head."""

    def layer(path: str, kind: str, shape: tuple[int, ...], parameters: int, macs: int) -> LayerRow:
        return LayerRow(
            path=path,
            kind=kind,
            depth=path.count(".") + 1 if path else 0,
            output_shape=shape,
            parameters=parameters,
            trainable=parameters,
            buffers=0,
            macs=macs,
            activation_bytes=4 * shape[1] * 64,
        )

    return InspectResult(
        architecture="simplified ResNet-50 for 32x32 images",
        shortcut="identity",
        input_shape=(1, 3, 32, 32),
        layers=(
            layer("", "ResNet", (1, 10), 8_882_762, 59_174_976),
            layer("layer1", "Sequential", (1, 64, 8, 8), 9_536, 2_408_448),
            layer("layer1.conv", "Conv2d 7x7 /2", (1, 64, 16, 16), 9_408, 2_408_448),
            layer("layer1.bn", "BatchNorm2d", (1, 64, 16, 16), 128, 0),
            layer("layer2", "Sequential", (1, 256, 4, 4), 200_000, 9_000),
            layer("layer2.0", "ResidualBlock", (1, 256, 8, 8), 100_000, 4_500),
            layer("layer2.0.branch", "Sequential", (1, 256, 8, 8), 100_000, 4_500),
            layer("layer2.1", "ResidualBlock", (1, 256, 4, 4), 100_000, 4_500),
            layer("head", "Linear", (1, 10), 10_250, 10_240),
        ),
        convolutions=45,
        parameters=8_882_762,
        trainable_parameters=8_872_512,
        buffer_elements=32_173,
        macs=59_174_976,
        conv_macs=59_164_736,
        flops=118_349_952,
        parameter_bytes=35_531_048,
        activation_bytes=1_572_864,
        checkpoint=checkpoint_info(),
    )


def predict_result() -> PredictResult:
    return PredictResult(
        checkpoint="runs/fast-1",
        tta="flip",
        precision="fp32",
        top_k=3,
        image_size=32,
        strangeness_threshold=4.5,
        predictions=(
            Prediction(
                path="pictures/[red]cat.jpg",
                guesses=(
                    Guess(label="cat", probability=0.8123),
                    Guess(label="dog", probability=0.1),
                    Guess(label="deer", probability=0.04),
                ),
                strangeness=2.125,
                notices=("640×480 squeezed to 32×32",),
                notice_kinds=("cropped",),
            ),
            Prediction(path="pictures/broken.png", error="not an image: ends after 12 bytes"),
            Prediction(
                path="pictures/vögel/ente.webp",
                guesses=(Guess(label="bird", probability=0.51), Guess(label="frog", probability=0.3)),
                strangeness=9.3,
                notice_kinds=("out_of_distribution",),
                notices=(
                    "looks unlike the validation images (strangeness 9.3, 99 % of them within 4.5): "
                    "the answer may mean nothing",
                ),
            ),
        ),
        pictures=3,
        failed=1,
    )


def dry_run_result() -> DryRunResult:
    return DryRunResult(
        config={"recipe": "fast", "epochs": 10, "lr": 0.1, "flip": True, "init": None},
        origins={"recipe": "default", "epochs": "flag", "lr": "recipe", "flip": "default", "init": "default"},
        device="cpu",
        precision="fp32",
        parameters=8_882_762,
        train_images=45_000,
        val_images=5_000,
        steps=880,
        first_loss=2.3026,
        step_seconds=0.412,
        last_step_seconds=0.412,
        estimated_seconds=3_725.0,
        peak_memory=1_503_238_553,
        disk_needed=320_000_000,
        disk_free=12_000_000_000,
    )


def data_result() -> DataResult:
    return DataResult(
        command="data verify",
        data="cifar10",
        path="cache/resnetcli/cifar10",
        source="official",
        size=184_380_000,
        seconds=1.234,
        batches=(
            BatchCheck(name="data_batch_1", images=10_000, sha256="54636561a3ce25bd" * 4, ok=True),
            BatchCheck(name="test_batch", images=10_000, sha256="f53d8d457504f7cf" * 4, ok=False),
        ),
        class_counts=dict.fromkeys(CLASSES[:3], 5_000),
        mean=(125.3069, 122.9502, 113.866),
        std=(62.9932, 62.0887, 66.7049),
    )


def bench_result(command: str = "bench train") -> BenchResult:
    """As of a machine whose matrix products run at 700 GFLOP/s."""

    def spread(*rounds: float) -> Spread:
        ordered = sorted(rounds)
        return Spread(median=ordered[len(rounds) // 2], low=ordered[0], high=ordered[-1], rounds=rounds)

    training = command == "bench train"
    tool, plain = spread(1490.0, 1512.5, 1433.2), spread(352.0, 339.5, 347.75)
    matrix, flops = spread(700e9, 688e9, 709.5e9), 281_484_288 if training else 86_689_280
    roof = spread(*(rate / flops for rate in matrix.rounds))
    images = 50_000 if training else 10_000
    small, first = 213_556_224, spread(1760.0, 1741.5, 1782.2)
    first_epochs = FirstEpochs(
        image_size=24, tool=first, flops_per_image=small, roof_share=first.median * small / matrix.median
    )
    return BenchResult(
        command=command,
        machine=Machine(device="cpu", name="A Processor", threads=2, precision="bf16", torch="2.10.0"),
        shortcut="identity",
        optimizer="muon" if training else None,
        batch_size=510 if training else 128,
        plain_batch_size=100,
        tool=tool,
        plain=plain,
        ratio=tool.median / plain.median,
        images=images,
        image_size=32,
        first_epochs=first_epochs if training else None,
        seconds=images / tool.median,
        plain_seconds=images / plain.median,
        matrix=matrix,
        flops_per_image=flops,
        roof=roof,
        roof_share=tool.median / roof.median,
        plain_roof_share=plain.median / roof.median,
        peak_memory=1_503_238_553,
    )


def replay_result(equal: bool = True) -> CheckpointsResult:
    """`checkpoints verify --replay` of a run that this machine repeats, or does not."""
    weights = ReplayedPart(name="weights", count=272, different=0)
    if not equal:
        weights = ReplayedPart(name="weights", count=272, different=2, first="head.bias", max_difference=0.000123)
    replay = ReplayResult(
        from_checkpoint="runs/fast-1/checkpoints/step-0000792",
        to_checkpoint="runs/fast-1/checkpoints/step-0000880",
        from_step=792,
        to_step=880,
        equal=equal,
        parts=(
            weights,
            ReplayedPart(name="optimiser state", count=137, different=0),
            ReplayedPart(name="figures of epochs", count=7, different=0),
        ),
        recorded_sha256="ab" * 32,
        replayed_sha256=("ab" if equal else "cd") * 32,
        changed=() if equal else (ChangedVersion(name="threads", recorded="2", here="8"),),
        device="cpu",
        threads=2 if equal else 8,
        precision="bf16",
        seconds=63.2,
    )
    return CheckpointsResult(command="checkpoints verify", checkpoints=(checkpoint_info(),), replay=replay)
