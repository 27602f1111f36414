import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.training.pdparams import read_weights


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("sprung",)


def test_weights_that_paddle_saved_are_read(tmp_path: Path) -> None:
    paddle = load_paddle()
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    paddle.save(layer.state_dict(), str(tmp_path / "a.pdparams"))
    found = read_weights(tmp_path / "a.pdparams")
    expected = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_weights_that_hide_a_call_are_refused_and_nothing_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trap.pdparams").write_bytes(pickle.dumps({"weight": Trap()}))
    with pytest.raises(QuantfleetError, match=r"posix\.mkdir, which no weights need") as caught:
        read_weights(Path("trap.pdparams"))
    assert caught.value.code is ErrorCode.MODEL_UNREADABLE
    assert not Path("sprung").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"weights", pickle.dumps([1, 2])])
def test_a_file_that_is_no_weights_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdparams").write_bytes(content)
    with pytest.raises(QuantfleetError, match=r"a\.pdparams holds no weights"):
        read_weights(tmp_path / "a.pdparams")
