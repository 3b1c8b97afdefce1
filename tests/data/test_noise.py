import torch

from resnetcli.data.noise import random_split


def test_random_images_are_laid_out_as_those_of_a_data_set_and_follow_their_seed():
    split = random_split(300, seed=1)
    assert (split.images.shape, split.images.dtype) == ((300, 3, 32, 32), torch.uint8)
    assert split.images.is_contiguous(memory_format=torch.channels_last)
    assert (split.images.min(), split.images.max()) == (0, 255)
    assert split.labels.unique().tolist() == list(range(10))
    assert torch.equal(split.images, random_split(300, seed=1).images)
    assert not torch.equal(split.images, random_split(300, seed=2).images)
