"""Samples that are texts: a tokenizer.json of Hugging Face's `tokenizers` turns them into token ids. Not for training.

Format: https://huggingface.co/docs/tokenizers; the library itself reads it.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from types import ModuleType

import numpy as np

from quantfleet_domain.calibration.graph import InputTensor

from .fields import invalid
from .geometry import Geometry
from .preprocessor import Prepared, Preprocessor, unfit, unreadable

INPUTS: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids")
_PAD_TOKENS = ("[PAD]", "<pad>")


@cache
def _tokenizers() -> ModuleType:
    import tokenizers

    return tokenizers


def tokenizer_version() -> str:
    """What decides the ids of a text besides the file itself."""
    return f"tokenizers-{version('tokenizers')}"


class TextPreprocessor(Preprocessor):
    """Feeds UTF-8 texts to integer inputs [1, length] called as in INPUTS.

    Every text becomes as long as the inputs are: cut and padded as the file says, and where it does not say, cut at
    the end and padded there with `[PAD]`, `<pad>` or id 0.
    """

    def __init__(self, tokenizer: str, inputs: Sequence[InputTensor]) -> None:
        """`tokenizer` is the file's content. Raises PREPROCESS_INVALID, MODEL_UNSUPPORTED."""
        shapes = {item.shape for item in inputs}
        known = all(item.name in INPUTS and item.dtype in ("int32", "int64") for item in inputs)
        if not known or len(shapes) != 1 or any(len(shape) != 2 for shape in shapes):
            raise unfit(inputs, f"a text feeds integer inputs [1, length] called {', '.join(INPUTS)}")
        self._inputs = tuple(inputs)
        ((_, self._length),) = shapes
        try:
            self._tokenizer = _tokenizers().Tokenizer.from_str(tokenizer)
        except Exception as error:  # the library raises bare exceptions
            raise invalid("the file", f"it is no tokenizer.json: {error}") from error
        self._settle()

    def _settle(self) -> None:
        cut = self._tokenizer.truncation or {}
        longest = min(cut.get("max_length", self._length), self._length)
        self._tokenizer.enable_truncation(**{**cut, "max_length": longest})
        padding = self._tokenizer.padding
        if padding is None:
            ids = {token: self._tokenizer.token_to_id(token) for token in _PAD_TOKENS}
            token = next((token for token in _PAD_TOKENS if ids[token] is not None), _PAD_TOKENS[0])
            padding = {"pad_token": token, "pad_id": ids[token] or 0}
        self._tokenizer.enable_padding(**{**padding, "length": self._length, "pad_to_multiple_of": None})

    def __call__(self, sample: bytes, name: str) -> Prepared:
        """See Preprocessor; a final line break does not belong to the text."""
        try:
            encoding = self._tokenizer.encode(sample.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as error:
            raise unreadable(name, f"byte {error.start} is not UTF-8") from error
        found = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        values: dict[str, list[int]] = dict(zip(INPUTS, found, strict=True))
        feeds = {item.name: np.array([values[item.name]], item.dtype) for item in self._inputs}
        return Prepared(feeds, Geometry.unchanged((1, self._length)))
