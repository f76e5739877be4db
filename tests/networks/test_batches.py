"""Batches: their order, mixed views, flat memory, and predictions from them."""

import os
from pathlib import Path

import numpy as np
import pytest

from bones.data.pixels import Rows
from bones.networks.batches import Batches, predict


def test_batches_order():
    pixels = Rows(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10))
    batches = Batches(pixels, 4, label=np.arange(10), weight=np.arange(10) / 2, shuffle_seed=3)

    def epoch():
        parts = [batches[index] for index in range(len(batches))]
        batches.on_epoch_end()
        return [np.concatenate(part).ravel().tolist() for part in zip(*parts, strict=True)]

    first, second = epoch(), epoch()
    assert first[0] == first[1] == [2 * weight for weight in first[2]]
    assert len(set(first[0])) == 8 and set(first[0]) < set(range(10)), "two whole batches of different views"
    assert first != second
    later = Batches(pixels, 4, label=np.arange(10), shuffle_seed=3)
    later.start_at(1)
    assert np.concatenate([later[index][1] for index in range(2)]).ravel().tolist() == second[1]
    assert len(Batches(pixels, 16, shuffle_seed=3)[0][0]) == 10, "fewer views than a batch are a batch"
    still = Batches(pixels, 4)
    assert len(still[0]) == 1 and still[2][0].ravel().tolist() == [8, 9]


def test_mixup_mixes_views_and_labels_alike():
    label = np.arange(64) % 2
    views = np.broadcast_to((200 * label).astype(np.uint8)[:, None, None, None], (64, 4, 4, 1))
    batches = Batches(views, 16, label, shuffle_seed=0, mixup=0.4)
    plain = Batches(views, 16, label, shuffle_seed=0)
    pixels, mixed = batches[1]
    assert pixels.dtype == np.uint8 and pixels.shape == (16, 4, 4, 1) and mixed.shape == (16, 1)
    np.testing.assert_allclose(pixels[:, 0, 0], 200 * mixed, atol=0.51)
    assert ((mixed > 0.5) == (plain[1][1] > 0.5)).all() and ((mixed > 0) & (mixed < 1)).any()
    assert (batches[1][1] == mixed).all() and not (batches[0][1] == mixed).all()
    batches.start_at(1)
    assert not (batches[1][1] == mixed).all()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_views(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    count, size = 36_808, 80
    np.lib.format.open_memmap(tmp_path / "cache.npy", "w+", np.uint8, (count, size, size, 1))  # zeros take no disk
    pixels = np.load(tmp_path / "cache.npy", mmap_mode="r")
    batches = Batches(Rows(pixels, np.arange(count)), 8, shuffle_seed=0)
    batches[0]
    before = resident()
    assert all(batches[place][0].shape == (8, size, size, 1) for place in range(len(batches)))
    assert resident() - before < pixels.nbytes / 10


def test_the_last_batch_is_filled_up():
    shapes = []

    class Sum:
        def predict(self, batches, verbose):
            values = [batches[place][0] for place in range(len(batches))]
            shapes.extend(value.shape for value in values)
            return np.concatenate([value.sum((1, 2), dtype=np.int64) for value in values])

    pixels = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((7, 2, 2, 1), np.uint8)
    np.testing.assert_array_equal(predict(Sum(), pixels, batch_size=4), 4 * np.arange(7))
    some = Rows(pixels, [4, 2, 6])
    np.testing.assert_array_equal(predict(Sum(), some, batch_size=4), [16, 8, 24])
    assert shapes == [(4, 2, 2, 1), (4, 2, 2, 1), (3, 2, 2, 1)]


def test_flip_averaging_takes_the_mean_of_both_sides():
    class LeftSide:
        def predict(self, batches, verbose):
            return np.concatenate([batches[place][0][:, 0, 0] for place in range(len(batches))]).astype(np.float32)

    pixels = np.array([[[[10], [20], [60]]], [[[0], [7], [2]]], [[[1], [9], [1]]]], np.uint8)
    np.testing.assert_array_equal(predict(LeftSide(), pixels, batch_size=2), [10, 0, 1])
    found = predict(LeftSide(), pixels, batch_size=2, flip_averaging=True)
    np.testing.assert_array_equal(found, [35, 1, 1])
