from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetcli.config.base import CLASS_NAMES
from resnetcli.config.commands import DataConfig, DataShowConfig, DataVerifyConfig
from resnetcli.data import cifar10 as canonical
from resnetcli.data import mini
from resnetcli.data.cifar10 import Dataset
from resnetcli.errors import DataError, StorageError, UsageError
from resnetcli.events import Event, Notice, Phase, ignore
from resnetcli.services import data

MINI = {"data": "cifar10-mini"}


@pytest.mark.cifar10
@pytest.mark.usefixtures("cifar10")
def test_verify_reports_digests_counts_and_statistics_of_the_cache() -> None:
    result = data.verify(DataVerifyConfig(), ignore)
    assert result.command == "data verify"
    assert {batch.name: batch.sha256 for batch in result.batches} == canonical.SHA256
    assert all(batch.ok and batch.images == 10_000 for batch in result.batches)
    assert result.class_counts == dict.fromkeys(CLASS_NAMES, 5000)
    assert result.mean == pytest.approx(canonical.CIFAR10_MEAN, abs=5e-5)
    assert result.std == pytest.approx(canonical.CIFAR10_STD, abs=5e-5)
    assert result.size == 184_380_000


@pytest.mark.cifar10
@pytest.mark.usefixtures("cifar10")
def test_download_of_what_is_there_says_where_it_is() -> None:
    events: list[Event] = []
    result = data.download(DataConfig(), events.append)
    assert result.source == "cache"
    assert result.path == str(canonical.cache_path(None))
    assert [type(event) for event in events] == [Notice]
    assert isinstance(events[0], Notice)
    assert result.path in events[0].text


def test_verify_fetches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        data.verify(DataVerifyConfig(cache_dir=tmp_path / "cache"), ignore)
    assert "data download" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [data.verify, data.download], ids=["verify", "download"])
def test_the_packaged_sample_is_verified_like_any_other(command: object) -> None:
    assert callable(command)
    result = command(DataConfig.model_validate(MINI), ignore)
    assert result.source == "package"
    assert [(batch.name, batch.images) for batch in result.batches] == [("train", 2000), ("test", 500)]
    assert result.class_counts == dict.fromkeys(CLASS_NAMES, 200)
    assert 5_000_000 < result.size < 7_000_000


def test_show_draws_evenly_in_the_order_of_the_classes() -> None:
    result, images = data.show(DataShowConfig.model_validate(MINI | {"count": 23, "split": "test"}), ignore)
    assert images.shape == (23, 32, 32, 3)
    assert images.dtype == np.uint8
    assert {result.labels.count(name) for name in CLASS_NAMES} == {2, 3}
    assert list(result.labels) == sorted(result.labels, key=CLASS_NAMES.index)


def test_shown_images_are_those_of_the_indices() -> None:
    result, images = data.show(DataShowConfig.model_validate(MINI | {"count": 20}), ignore)
    split = mini.load().train
    for image, label, index in zip(images, result.labels, result.indices, strict=True):
        assert np.array_equal(image, split.images[index].permute(1, 2, 0).numpy())
        assert CLASS_NAMES[split.labels[index]] == label


def test_the_draw_depends_on_the_seed() -> None:
    def drawn(seed: int) -> tuple[int, ...]:
        return data.show(DataShowConfig.model_validate(MINI | {"seed": seed}), ignore)[0].indices

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_more_images_than_there_are_shows_all_and_says_so() -> None:
    events: list[Event] = []
    result, _ = data.show(DataShowConfig.model_validate(MINI | {"count": 1000, "split": "test"}), events.append)
    assert len(result.indices) == 500
    said = [event for event in events if not isinstance(event, Phase)]
    assert said == [Notice("the test split of cifar10-mini has 500 images, not 1,000: all are shown")]


def test_the_picture_holds_every_image_enlarged_pixel_by_pixel(tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.png"
    config = DataShowConfig.model_validate(MINI | {"count": 30, "scale": 3, "output": path})
    result, images = data.show(config, ignore)
    assert result.written == str(path)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]
    with Image.open(path) as picture:
        grid = np.array(picture.convert("RGB"))
    side, gap = 96, 6
    assert grid.shape[0] == gap + 10 * (side + gap)
    left = grid.shape[1] - 3 * (side + gap)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        top, start = gap + row * (side + gap), left + column * (side + gap)
        assert np.array_equal(grid[top : top + side : 3, start : start + side : 3], image)
    assert (grid[:, :left] < 128).any(), "the class names stand on the left"


def test_a_picture_that_is_no_png_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"grid\.jpg is no PNG"):
        data.show(DataShowConfig(output=tmp_path / "grid.jpg", cache_dir=tmp_path), ignore)


def test_a_picture_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"grid\.png"):
        data.show(DataShowConfig.model_validate(MINI | {"output": tmp_path / "file" / "grid.png"}), ignore)


@pytest.mark.cifar10
def test_cifar10_itself_can_be_shown(cifar10: Dataset) -> None:
    result, images = data.show(DataShowConfig(count=10), ignore)
    assert result.labels == CLASS_NAMES
    assert np.array_equal(images[9], cifar10.train.images[result.indices[9]].permute(1, 2, 0).numpy())
