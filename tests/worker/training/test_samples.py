from dataclasses import dataclass

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.training.samples import batch, batches


@dataclass(frozen=True)
class Numbers:
    count: int
    there: int

    def get(self, index: int) -> int:
        if index >= self.there:
            raise IndexError(index)
        return index


def triple(sample: int, done: int, index: int) -> tuple[int, int, int]:
    return sample, done, index


def test_every_epoch_takes_each_sample_once_in_another_order() -> None:
    epochs = [[index for done in range(start, start + 4) for index in batch(done, 3, 12)] for start in (0, 4)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1] != list(range(12))


def test_samples_that_fill_no_batch_wait_for_another_epoch() -> None:
    assert len({index for done in range(4) for index in batch(done, 3, 14)}) == 12


@pytest.mark.parametrize("workers", [0, 3])
def test_an_iteration_gets_the_same_samples_whoever_prepares_them(workers: int) -> None:
    found = list(batches(Numbers(7, 7), triple, 2, 5, 3, workers))
    assert found == [(done, [(index, done, index) for index in batch(done, 3, 7)]) for done in range(2, 7)]


@pytest.mark.parametrize("count", [0, 2])
def test_less_than_a_batch_is_an_error_that_says_how_much_there_is(count: int) -> None:
    with pytest.raises(QuantfleetError, match=f"iteration 5 needs a batch of 3 samples, and .* has {count}") as caught:
        list(batches(Numbers(count, count), triple, 4, 1, 3, 0))
    assert caught.value.code is ErrorCode.DATA_EMPTY


@pytest.mark.parametrize("workers", [0, 2])
def test_data_that_ends_early_is_an_error_that_names_the_iteration(workers: int) -> None:
    last = next(done for done in range(9) if 11 in batch(done, 3, 12))
    with pytest.raises(QuantfleetError, match=f"iteration {last + 1} needs sample 12 of 12") as caught:
        list(batches(Numbers(12, 11), triple, 0, 4, 3, workers))
    assert caught.value.code is ErrorCode.DATA_EMPTY
