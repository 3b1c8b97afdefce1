import io
import threading

import pytest
import torch
from PIL import Image

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import encode
from resnetcli.checkpoints.packaged import read_about
from resnetcli.config.commands import EvaluateConfig, PredictConfig
from resnetcli.data import images as pictures
from resnetcli.data import mini
from resnetcli.errors import DataError
from resnetcli.events import Notice, ignore
from resnetcli.results.checkpoints import Calibration
from resnetcli.services.evaluate import evaluate
from resnetcli.services.networks import open_network
from resnetcli.services.predict import predict
from tests.foreign import SMALL, lived_in


def predicted(run, *paths, stdin=None, seen=None, **settings):
    config = PredictConfig(paths=tuple(map(str, paths)), checkpoint=str(run), **settings)
    return predict(config, stdin=stdin, on_event=ignore, on_prediction=None if seen is None else seen.append)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """All 500 test images of the sample as PNG files, named so that their order is that of the split."""
    folder = tmp_path_factory.mktemp("png")
    for i, image in enumerate(mini.load().test.images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:04d}.png")
    return folder


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tta", ["none", "flip", "shift"])
def test_predicting_exported_test_images_gives_exactly_what_evaluate_says(run, exported, tta, threads):
    before = torch.get_num_threads()
    try:
        settings = {"checkpoint": str(run), "tta": tta, "threads": threads}
        answers = evaluate(EvaluateConfig(data="cifar10-mini", **settings), on_event=ignore).answers
        names = mini.load().classes
        expected = [(names[a.predicted], a.confidence) for a in answers]
        whole = predicted(run, exported, tta=tta, threads=threads).predictions
        assert [(p.guesses[0].label, p.guesses[0].probability) for p in whole] == expected
        some = predicted(run, *(exported / f"{i:04d}.png" for i in (499, 3)), tta=tta, threads=threads).predictions
        assert [(p.guesses[0].label, p.guesses[0].probability) for p in some] == [expected[499], expected[3]]
        assert all("strangeness" in notice for p in whole for notice in p.notices)
    finally:
        torch.set_num_threads(before)


@pytest.mark.whole_network
@pytest.mark.parametrize("tta", ["none", "flip"])
def test_the_packaged_weights_predict_exactly_what_they_evaluate(exported, tta):
    measured = evaluate(EvaluateConfig(data="cifar10-mini", tta=tta), on_event=ignore)
    names = [c.name for c in measured.scores.classes]
    result = predicted("pretrained", exported, tta=tta)
    assert [(p.guesses[0].label, p.guesses[0].probability) for p in result.predictions] == [
        (names[a.predicted], a.confidence) for a in measured.answers
    ]


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_calibration_does_predict_and_evaluate_do_alike(run, exported, tmp_path, calibrate, precision):
    checkpoint, network = open_network(str(run), ignore)
    header = checkpoint.header.model_copy(update={"calibration": Calibration(temperature=0.7, images=200)})
    storage.write_file(tmp_path / "m.safetensors", encode(network.state_dict(), header))
    settings = {"checkpoint": str(tmp_path / "m.safetensors"), "calibrate": calibrate, "precision": precision}
    settings |= {"allow_slow": True}
    measured = evaluate(EvaluateConfig(data="cifar10-mini", **settings), on_event=ignore)
    result = predict(PredictConfig(paths=(str(exported),), **settings), stdin=None, on_event=ignore, on_prediction=None)
    names = [c.name for c in measured.scores.classes]
    assert [(p.guesses[0].label, p.guesses[0].probability) for p in result.predictions] == [
        (names[a.predicted], a.confidence) for a in measured.answers
    ]
    assert result.temperature == measured.temperature == (0.7 if calibrate else None)


def test_a_picture_unlike_the_validation_images_gets_a_notice_and_others_do_not(run, exported, tmp_path):
    noise = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    Image.fromarray(noise.numpy()).save(tmp_path / "noise.png")
    result = predicted(run, tmp_path / "noise.png", exported)
    strange, *images = result.predictions
    (notice,) = strange.notices
    assert notice.startswith("looks unlike the validation images (strangeness ")
    assert f"99 % of them within {result.strangeness_threshold:.1f}" in notice
    assert strange.guesses
    for image in images:
        assert bool(image.notices) == (image.strangeness > result.strangeness_threshold)
    assert sum(bool(image.notices) for image in images) < 0.04 * len(images)


def test_a_checkpoint_that_knows_no_limits_calls_nothing_strange(exported, tmp_path):
    torch.save(lived_in("identity", stages=SMALL).state_dict(), tmp_path / "f.ckpt")
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    result = predicted(tmp_path / "f.ckpt", tmp_path / "black.png")
    assert (result.temperature, result.strangeness_threshold) == (None, None)
    assert (result.predictions[0].strangeness, result.predictions[0].notices) == (None, ())


def test_probabilities_are_sorted_and_of_all_classes_add_up(run, exported):
    (one,) = predicted(run, exported / "0000.png", top_k=1000).predictions
    values = [g.probability for g in one.guesses]
    assert len(values) == 10
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)


def test_one_bad_file_stops_nobody_and_is_answered_in_its_place(run, exported, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    paths = (exported / "0001.png", bad, tmp_path / "none.png", exported / "0002.png")
    result = predicted(run, *paths)
    assert [p.error is None for p in result.predictions] == [True, False, False, True]
    assert result.failed == 2
    assert result.pictures == 4
    assert "bad.png" in result.predictions[1].path
    alone = predicted(run, exported / "0002.png").predictions[0]
    assert result.predictions[3].guesses == alone.guesses


def test_what_a_folder_holds_and_is_not_predicted_is_said_and_counted(run, exported, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    (tmp_path / "drawing.svg").write_bytes(b"")
    (tmp_path / "class").symlink_to(exported)
    events = []
    config = PredictConfig(paths=(str(tmp_path),), checkpoint=str(run))
    result = predict(config, stdin=None, on_event=events.append, on_prediction=None)
    assert (result.pictures, result.failed) == (1, 0)
    assert (result.left_out.kinds, result.left_out.linked_folders) == ({".svg": 1}, 1)
    kinds, folders = [event.text for event in events if isinstance(event, Notice) and event.warning]
    assert "1 .svg" in kinds
    assert str(tmp_path / "class") in folders
    named = predicted(run, tmp_path / "class")
    assert (named.pictures, named.left_out.linked_folders) == (500, 0)


def test_predictions_that_are_handed_out_one_by_one_are_the_same_and_are_not_kept(run, exported):
    seen = []
    streamed = predicted(run, exported, seen=seen)
    assert (streamed.predictions, streamed.pictures) == ((), 500)
    assert tuple(seen) == predicted(run, exported).predictions


def test_no_more_pictures_are_decoded_than_three_batches_hold(run, exported, monkeypatch):
    monkeypatch.setattr("resnetcli.services.predict.inference_rows", lambda device: 4)
    decoded, open_now, most = pictures.decode, 0, 0
    lock = threading.Lock()

    def counted(path, size, data):
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        return decoded(path, size, data)

    def handed_out(prediction):
        nonlocal open_now
        with lock:
            open_now -= 1

    monkeypatch.setattr(pictures, "decode", counted)
    config = PredictConfig(paths=(str(exported),), checkpoint=str(run))
    predict(config, stdin=None, on_event=ignore, on_prediction=handed_out)
    assert open_now == 0
    assert 4 <= most <= 3 * 4 + 1


def test_the_first_answers_do_not_wait_for_a_full_batch_of_slow_pictures(run, exported, monkeypatch):
    decode, decoded, answered = pictures.decode, [], []
    clock = iter(range(10_000))
    monkeypatch.setattr("resnetcli.services.predict.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(pictures, "decode", lambda path, size, data: decoded.append(path) or decode(path, size))
    config = PredictConfig(paths=(str(exported / "0[0-2]*.png"),), checkpoint=str(run))
    predict(config, stdin=None, on_event=ignore, on_prediction=lambda p: answered.append(len(decoded)))
    assert len(answered) == 300
    assert answered[0] < 300


def test_a_name_that_no_file_system_takes_stops_nobody(run, exported):
    result = predicted(run, "x" * 5000, "a\0b", exported / "0001.png")
    assert [p.error is None for p in result.predictions] == [False, False, True]


def test_bf16_is_said_and_stays_near_float32(run, exported):
    exact = predicted(run, exported, top_k=10)
    rounded = predicted(run, exported, top_k=10, precision="bf16", allow_slow=True)
    assert (exact.precision, rounded.precision) == ("fp32", "bf16")
    worst = max(
        abs(a.probability - {g.label: g.probability for g in q.guesses}[a.label])
        for p, q in zip(exact.predictions, rounded.predictions, strict=True)
        for a in p.guesses
    )
    assert 0 < worst < 0.05


@pytest.mark.whole_network
def test_without_a_checkpoint_the_packaged_weights_answer_and_say_how_good_they_are(exported):
    paths = (str(exported / "0001.png"),)
    result = predict(PredictConfig(paths=paths), stdin=None, on_event=ignore, on_prediction=None)
    assert result == predicted("pretrained", *paths)
    assert (result.checkpoint, result.test_top1) == ("pretrained", read_about("pretrained").metrics["test_top1"])


def test_a_run_that_no_card_describes_is_not_said_to_be_good(run, exported):
    assert predicted(run, exported / "0001.png").test_top1 is None


@pytest.mark.whole_network
def test_what_lies_in_the_folder_under_the_name_of_packaged_weights_is_pointed_out(exported, tmp_path, monkeypatch):
    def warnings():
        events = []
        config = PredictConfig(paths=(str(exported / "0001.png"),), checkpoint="pretrained")
        assert predict(config, stdin=None, on_event=events.append, on_prediction=None).checkpoint == "pretrained"
        return [event.text for event in events if isinstance(event, Notice) and event.warning]

    monkeypatch.chdir(tmp_path)
    assert warnings() == []
    (tmp_path / "pretrained").mkdir()
    assert warnings() == ["pretrained is the packaged weights; what lies here under this name is ./pretrained"]


def test_paths_come_from_stdin(run, exported):
    names = io.BytesIO(f"{exported / '0005.png'}\n{exported / '0006.png'}\n".encode())
    result = predicted(run, "-", stdin=names)
    assert [p.path for p in result.predictions] == [str(exported / "0005.png"), str(exported / "0006.png")]


def test_a_larger_picture_is_answered_with_a_notice(run, tmp_path):
    Image.new("RGB", (640, 480), "skyblue").save(tmp_path / "sky.jpg")
    (sky,) = predicted(run, tmp_path / "sky.jpg").predictions
    assert sky.error is None
    assert any("640" in notice for notice in sky.notices)


def test_an_empty_list_is_an_error(run):
    with pytest.raises(DataError, match="no picture"):
        predicted(run, "-", stdin=io.BytesIO())
