from __future__ import annotations

import pytest
import torch

from resnetcli.data.split import stratified_limit, stratified_split

LABELS = torch.arange(1000) % 10
PINNED = [121, 207, 422, 440, 463, 465, 554, 566, 878, 909]
UNEVEN = torch.cat([torch.full((70,), 0), torch.full((20,), 1), torch.full((10,), 2)])


def test_a_split_holds_out_the_floor_of_the_fraction_of_each_class() -> None:
    _, val = stratified_split(UNEVEN, 0.15, seed=0)
    assert torch.bincount(UNEVEN[val]).tolist() == [10, 3, 1]


def test_a_fraction_that_floating_point_rounds_down_still_gives_the_whole_number() -> None:
    _, val = stratified_split(LABELS, 0.29, seed=0)
    assert torch.bincount(LABELS[val]).tolist() == [29] * 10


def test_both_sides_of_a_split_are_sorted_and_make_up_all_images() -> None:
    train, val = stratified_split(LABELS, 0.1, seed=3)
    assert train.dtype == val.dtype == torch.int64
    assert torch.equal(train, train.sort().values)
    assert torch.equal(val, val.sort().values)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(1000))


def test_a_split_depends_on_its_seed_and_on_nothing_else() -> None:
    first = stratified_split(LABELS, 0.1, seed=1)[1]
    torch.manual_seed(1234)
    assert torch.equal(first, stratified_split(LABELS, 0.1, seed=1)[1])
    assert not torch.equal(first, stratified_split(LABELS, 0.1, seed=2)[1])


def test_a_split_is_the_one_that_was_pinned() -> None:
    """Checkpoints say by fraction and seed alone which images they were not trained on."""
    assert stratified_split(LABELS, 0.01, seed=0)[1].tolist() == PINNED


def test_a_smaller_split_lies_within_a_larger_one_of_the_same_seed() -> None:
    small, large = (set(stratified_split(LABELS, fraction, seed=5)[1].tolist()) for fraction in (0.05, 0.1))
    assert small < large


def test_a_fraction_of_zero_holds_out_nothing() -> None:
    train, val = stratified_split(LABELS, 0.0, seed=0)
    assert len(train) == 1000
    assert len(val) == 0


@pytest.mark.parametrize("count", [1, 7, 99, 100])
def test_a_limit_keeps_the_proportions_and_the_exact_count(count: int) -> None:
    chosen = stratified_limit(UNEVEN, count, seed=0)
    sizes = torch.bincount(UNEVEN[chosen], minlength=3)
    assert sizes.sum() == len(chosen.unique()) == count
    assert ((sizes - count * torch.tensor([0.7, 0.2, 0.1])).abs() < 1).all()
    assert torch.equal(chosen, chosen.sort().values)


def test_a_limit_above_the_number_of_images_takes_all() -> None:
    assert torch.equal(stratified_limit(UNEVEN, 1000, seed=0), torch.arange(100))
    assert len(stratified_limit(torch.empty(0, dtype=torch.int64), 5, seed=0)) == 0


def test_a_limit_depends_on_its_seed() -> None:
    assert not torch.equal(stratified_limit(LABELS, 100, seed=0), stratified_limit(LABELS, 100, seed=1))
