"""The state of a training as bytes: plain arrays and JSON, never a pickle (law L6). Not for what the arrays mean."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError

FORMAT = "quantfleet/checkpoint/v1"
_HEADER = "header"
Array = NDArray[Any]


@dataclass(frozen=True)
class Checkpoint:
    """`done` iterations of the training that `training` names have been made; `state` holds its arrays by name."""

    training: str
    done: int
    state: Mapping[str, Array]

    def to_bytes(self) -> bytes:
        """An `.npz` of the arrays and a JSON header. The same state gives the same bytes."""
        header = {"format": FORMAT, "training": self.training, "done": self.done}
        members = {f"state/{name}": np.asarray(self.state[name]) for name in sorted(self.state)}
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **{_HEADER: np.array(json.dumps(header, sort_keys=True))}, **members)
        return out.getvalue()

    @staticmethod
    def iterations(data: bytes) -> int:
        """After how many iterations a checkpoint was written. Raises QuantfleetError(MODEL_UNREADABLE)."""
        return _read(data).done

    @staticmethod
    def from_bytes(data: bytes, training: str) -> "Checkpoint":
        """Read what `to_bytes` wrote. Raises QuantfleetError(MODEL_UNREADABLE) for any other, or another training's."""
        found = _read(data)
        if found.training != training:
            raise QuantfleetError(
                ErrorCode.MODEL_UNREADABLE,
                f"the checkpoint is of another training ({found.training}) than this one ({training})",
                "resume with the model, configuration and parameters that it was made with",
            )
        return found


def _read(data: bytes) -> Checkpoint:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as members:
            header = json.loads(str(members[_HEADER]))
            state = {name.removeprefix("state/"): members[name] for name in members.files if name != _HEADER}
        found = Checkpoint(header["training"], int(header["done"]), state)
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}")
    except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"not a training checkpoint: {error}",
            "resume from one that quantfleet wrote",
        ) from error
    return found
