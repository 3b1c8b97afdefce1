from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from resnetcli.data import cifar10 as canonical
from resnetcli.data.cifar10 import BATCH_BYTES, BATCHES, Dataset
from resnetcli.errors import DataError, StorageError
from tests.limits import files_limited_to

Batches = list[NDArray[np.uint8]]


@pytest.mark.cifar10
def test_all_of_cifar10_loads_in_its_shapes_and_in_channels_last(cifar10: Dataset) -> None:
    for split, count in ((cifar10.train, 50_000), (cifar10.test, 10_000)):
        assert split.images.shape == (count, 3, 32, 32)
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous(memory_format=torch.channels_last)
        assert split.labels.dtype == torch.int64
        assert torch.bincount(split.labels).tolist() == [count // 10] * 10


@pytest.mark.cifar10
def test_class_counts_of_the_first_batch_are_the_official_ones(cifar10: Dataset) -> None:
    counts = torch.bincount(cifar10.train.labels[:10_000]).tolist()
    assert counts == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]


@pytest.mark.cifar10
def test_loaded_pixels_are_the_planes_of_the_records(cifar10: Dataset, batches: Batches) -> None:
    planes = batches[5][:, 1:].reshape(-1, 3, 32, 32)
    assert np.array_equal(cifar10.test.images.numpy(), planes)
    assert np.array_equal(cifar10.test.labels.numpy(), batches[5][:, 0])


@pytest.mark.cifar10
def test_mean_and_std_constants_are_those_of_the_training_images(cifar10: Dataset) -> None:
    mean, std = canonical.channel_statistics(cifar10.train.images)
    assert mean == pytest.approx(canonical.CIFAR10_MEAN, abs=5e-5)
    assert std == pytest.approx(canonical.CIFAR10_STD, abs=5e-5)


def test_channel_statistics_agree_with_torch_in_double_precision() -> None:
    images = torch.randint(0, 256, (4100, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = canonical.channel_statistics(images)
    std_expected, mean_expected = torch.std_mean(images.double(), dim=(0, 2, 3), correction=0)
    assert mean == pytest.approx(mean_expected.tolist(), rel=1e-12)
    assert std == pytest.approx(std_expected.tolist(), rel=1e-12)


@pytest.mark.cifar10
def test_a_flipped_bit_in_the_cache_is_reported_with_file_and_batch(scratch: Path, batches: Batches) -> None:
    path = scratch / "cifar10.bin"
    altered = np.concatenate([batch.ravel() for batch in batches])
    altered[BATCH_BYTES * 2 + 77] ^= 1
    altered.tofile(path)
    with pytest.raises(DataError) as caught:
        canonical.load(path)
    assert str(path) in caught.value.message
    assert "data_batch_3 does not have the canonical digest" in caught.value.message
    assert "data_batch_2" not in caught.value.message


def test_a_cut_cache_is_reported_with_the_bytes_that_lack(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.bin"
    with path.open("wb") as file:
        file.truncate(canonical.CACHE_BYTES - 1204)
    with pytest.raises(DataError, match="1,204 bytes short") as caught:
        canonical.verify(path)
    assert str(path) in caught.value.message


def test_a_missing_cache_is_reported_with_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        canonical.load(tmp_path / "cifar10.bin")
    assert "data download" in caught.value.hint


def test_a_label_above_nine_is_reported_with_its_image() -> None:
    records = np.zeros((10_000, 3073), np.uint8)
    records[17, 0] = 10
    assert canonical.batch_problem("test_batch", records) == "test_batch gives image 17 the label 10, above 9"


def test_records_of_pixels_are_one_label_and_three_planes() -> None:
    pixels = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8).reshape(2, 32, 32, 3)
    records = canonical.to_records(pixels, np.array([3, 9]))
    assert records[:, 0].tolist() == [3, 9]
    assert np.array_equal(records[1, 1:].reshape(3, 32, 32), pixels[1].transpose(2, 0, 1))


def test_altered_batches_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "cifar10" / "cifar10.bin"
    with pytest.raises(DataError, match=r"somewhere\.tar: data_batch_1 does not have"):
        canonical.write(path, [np.zeros(BATCH_BYTES, np.uint8)] * 6, Path("somewhere.tar"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cifar10
def test_a_disk_that_gets_full_leaves_the_old_cache_and_nothing_half_written(scratch: Path, batches: Batches) -> None:
    path = scratch / "cifar10.bin"
    path.write_bytes(b"the old one")
    with files_limited_to(BATCH_BYTES * 3), pytest.raises(StorageError) as caught:
        canonical.write(path, batches, Path("origin"))
    assert "184,380,000 bytes are needed" in caught.value.message
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert [file.name for file in scratch.iterdir()] == ["cifar10.bin"]
    assert path.read_bytes() == b"the old one"


def test_the_cache_lies_in_the_named_folder_or_in_the_users() -> None:
    assert canonical.cache_path(Path("here")) == Path("here/cifar10/cifar10.bin")
    assert "resnetcli" in canonical.cache_path(None).parts
    assert len(BATCHES) == 6
