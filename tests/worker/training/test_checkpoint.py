import io
import pickle

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.training.checkpoint import Checkpoint
from quantfleet_worker.training.interval import start

STATE = {"w/é@scale": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(-0.5) * np.ones(())}


def test_a_checkpoint_comes_back_as_it_was() -> None:
    found = Checkpoint.from_bytes(Checkpoint("t", 5, STATE).to_bytes(), "t")
    assert (found.training, found.done, found.state.keys()) == ("t", 5, STATE.keys())
    assert all(np.array_equal(found.state[name], STATE[name]) for name in STATE)


def test_the_same_state_gives_the_same_bytes_in_any_order() -> None:
    turned = dict(reversed(STATE.items()))
    assert Checkpoint("t", 5, STATE).to_bytes() == Checkpoint("t", 5, turned).to_bytes()


def test_a_pickle_is_no_checkpoint() -> None:
    hidden = io.BytesIO()
    np.savez(hidden, header=np.array([{"a": 1}], dtype=object))
    for data in (pickle.dumps(STATE), hidden.getvalue(), b"", Checkpoint("t", 5, STATE).to_bytes()[:-40]):
        with pytest.raises(QuantfleetError, match="not a training checkpoint") as caught:
            Checkpoint.from_bytes(data, "t")
        assert caught.value.code is ErrorCode.MODEL_UNREADABLE


def test_another_trainings_checkpoint_is_refused() -> None:
    with pytest.raises(QuantfleetError, match="is of another training"):
        Checkpoint.from_bytes(Checkpoint("t", 5, STATE).to_bytes(), "u")


@pytest.mark.parametrize(("checkpoint", "first"), [(Checkpoint("t", 5, STATE).to_bytes(), 6), (None, 5)])
def test_an_interval_that_does_not_follow_its_checkpoint_is_refused(checkpoint: bytes | None, first: int) -> None:
    with pytest.raises(QuantfleetError, match=f"continues after {first} iterations"):
        start(checkpoint, "t", first)
