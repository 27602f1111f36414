"""Samples without a picture: texts through a tokenizer.json, and arrays that somebody prepared."""

import io

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.preprocessing.configuration import parse
from quantfleet_worker.preprocessing.tensors import TensorPreprocessor

WORDS = {"[PAD]": 3, "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "good": 4, "bad": 5, "day": 6}
NAMES = ("input_ids", "attention_mask", "token_type_ids")
PAIR = (InputTensor("ids", (1, 4), "int64"), InputTensor("x", (1, 2), "float32"))


def inputs(length: int, dtype: str = "int64") -> tuple[InputTensor, ...]:
    return tuple(InputTensor(name, (1, length), dtype) for name in NAMES)


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def rows(file: str, text: str, asked: tuple[InputTensor, ...]) -> list[list[int]]:
    feeds = parse(file).preprocessor(asked)(text.encode(), "a.txt").feeds
    assert {array.dtype.name for array in feeds.values()} == {asked[0].dtype}
    return [feeds[item.name][0].tolist() for item in asked]


def test_a_text_is_padded_to_the_models_length_where_the_file_does_not_say() -> None:
    ids, mask, types = rows(tokenizer().to_str(), "good day", inputs(6))
    assert ids == [1, 4, 6, 2, 3, 3]
    assert mask == [1, 1, 1, 1, 0, 0]
    assert types == [0] * 6


def test_a_text_that_is_too_long_keeps_its_special_tokens() -> None:
    assert rows(tokenizer().to_str(), "good good good day", inputs(4, "int32"))[0] == [1, 4, 4, 2]


def test_the_files_own_truncation_and_padding_are_kept() -> None:
    made = tokenizer()
    made.enable_truncation(4, direction="left")
    made.enable_padding(direction="left", pad_id=9, pad_token="?")
    ids, mask, _ = rows(made.to_str(), "good good bad day", inputs(6))
    assert ids == [9, 9, 1, 5, 6, 2]
    assert mask == [0, 0, 1, 1, 1, 1]


def test_a_model_gets_only_the_inputs_that_it_has() -> None:
    assert rows(tokenizer().to_str(), "bad\n", inputs(3)[:1]) == [[1, 5, 2]]


@pytest.mark.parametrize(
    "asked",
    [
        (InputTensor("x", (1, 6), "int64"),),
        (InputTensor("input_ids", (1, 6), "float32"),),
        (InputTensor("input_ids", (1, 6), "int64"), InputTensor("attention_mask", (1, 7), "int64")),
        (InputTensor("input_ids", (1, 6, 2), "int64"),),
    ],
)
def test_a_model_that_takes_no_text_is_refused(asked: tuple[InputTensor, ...]) -> None:
    with pytest.raises(QuantfleetError, match="a text feeds integer inputs") as caught:
        parse(tokenizer().to_str()).preprocessor(asked)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("{", "not JSON"),
        ("{}", "it has no model"),
        ('{"model": {}}', "it is no tokenizer.json"),
    ],
)
def test_what_is_no_tokenizer_is_told(file: str, said: str) -> None:
    with pytest.raises(QuantfleetError, match=said) as caught:
        parse(file).preprocessor(inputs(4))
    assert caught.value.code is ErrorCode.PREPROCESS_INVALID


def test_a_text_that_is_not_utf8_names_the_sample() -> None:
    with pytest.raises(QuantfleetError, match=r"sample a\.txt: byte 1") as caught:
        parse(tokenizer().to_str()).preprocessor(inputs(4))(b"a\xff", "a.txt")
    assert caught.value.code is ErrorCode.SAMPLE_UNREADABLE


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_an_archive_feeds_every_input_by_its_name() -> None:
    stored = {"x": np.ones((1, 2), np.float32), "ids": np.arange(4)}
    found = TensorPreprocessor(PAIR)(npz(**stored), "a.npz").feeds
    assert list(found) == ["ids", "x"]
    assert found["ids"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (npz(x=np.ones((1, 2), np.float32)), "it holds x, and the model's inputs are ids, x"),
        (npz(x=np.ones((1, 2)), ids=np.arange(4)), "for input x it holds float64, not float32"),
        (npz(x=np.ones((1, 3), np.float32), ids=np.arange(4)), "the model's input x is [1, 2]"),
        (b"PK\x03\x04", "no .npy or .npz file"),
        (npz(x=np.array([object()])), "no .npy or .npz file"),
        (npy(np.ones((1, 2), np.float32)), "a .npy file feeds one float32 input"),
    ],
)
def test_arrays_that_do_not_fit_name_the_sample_or_the_inputs(sample: bytes, said: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        TensorPreprocessor(PAIR)(sample, "a.npz")
    assert said in caught.value.what
