"""Memory that is used again, and only when nobody holds it any more."""

import threading

import numpy as np
import pytest

from masterframe.cell import spare


@pytest.fixture(autouse=True)
def nothing_spare():
    spare.give_back()
    yield
    spare.give_back()


def place(array):
    return array.__array_interface__["data"][0]


VIEWS = {
    "itself": lambda array: array,
    "a part": lambda array: array[1:, ::2],
    "another type": lambda array: array.view(np.uint8),
    "a view of a view of a view": lambda array: array.reshape(-1)[3:].view(np.int32).T,
    "a copy that is none": lambda array: array.astype(array.dtype, copy=False),
    "strides of its own": lambda array: np.lib.stride_tricks.sliding_window_view(array, (1, 2)),
    "no array": memoryview,
}  # fmt: skip


@pytest.mark.parametrize("kind", VIEWS)
def test_memory_is_not_given_to_others_while_any_view_is_left(kind):
    first = spare.empty((4, 6), np.float64)
    first[...] = 1.0
    where, left = place(first), VIEWS[kind](first)
    del first
    second = spare.empty((4, 6), np.float64)
    second[...] = 2.0
    assert place(second) != where
    expected = VIEWS[kind](np.ones((4, 6)))
    np.testing.assert_array_equal(np.asarray(left), np.asarray(expected))
    del left
    assert place(spare.empty((4, 6), np.float64)) == where


def test_a_new_piece_takes_the_place_of_a_larger_one():
    pieces = [spare.empty((size,), np.uint8) for size in (400, 100, 200, 200)]
    pieces.clear()
    taken = [spare.empty((25, 2), np.float32), spare.empty((150,), np.uint8)]
    assert sorted(piece.size for piece in spare._spare) == [100, 400]
    taken += [spare.empty((500,), np.uint8), spare.empty((400,), np.uint8)]
    assert [piece.size for piece in spare._spare] == [100]
    assert spare.empty((0, 7), np.float64).shape == (0, 7)


def test_nothing_is_kept_once_it_was_given_back():
    pieces = [spare.empty((8, 8), np.int32) for _ in range(3)]
    del pieces
    spare.give_back()
    assert not spare._spare


def test_threads_never_share_a_piece():
    wrong = []

    def work(number):
        for _ in range(300):
            mine = spare.empty((64,), np.int64)
            mine[...] = number
            other = spare.empty((32,), np.int64)
            other[...] = -1
            if (mine != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(spare._spare) <= 8 * (3 + 3)  # each holds two, and makes the next before it lets go
