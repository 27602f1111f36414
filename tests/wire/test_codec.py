"""Every domain value that crosses the wire has a message with the same fields, and comes back as it went."""

import dataclasses
import types
import typing
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.lifecycle import Failure
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    EvaluateResult,
    Measured,
)
from quantfleet_domain.jobs.spec import JobSpec
from quantfleet_domain.jobs.task_results import Result
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    EvaluateWork,
    NativeWork,
    TrainWork,
    Work,
)
from quantfleet_protos.v1 import base_pb2, hardware_pb2, job_pb2, task_pb2
from quantfleet_wire.codec import decode, decode_union, encode

PAIRS: list[tuple[Any, type[Message]]] = [
    (JobSpec, job_pb2.JobSpec),
    (DeviceFacts, hardware_pb2.DeviceFacts),
    (Failure, base_pb2.Failure),
    *((case, getattr(task_pb2, case.__name__)) for case in typing.get_args(Work)),
    *((case, getattr(task_pb2, case.__name__)) for case in typing.get_args(Result)),
]
WORK = (CalibrateWork, NativeWork, TrainWork, BenchmarkWork, EvaluateWork)


def inner(hint: Any) -> Any:
    """The dataclass that a type hint speaks of, if any."""
    for part in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(part):
            return part
    return None


def pairs_below(kind: Any, message: Any, seen: dict[Any, Any]) -> dict[Any, Any]:
    if kind in seen:
        return seen
    seen[kind] = message
    for name, hint in typing.get_type_hints(kind).items():
        below = message.fields_by_name[name].message_type
        cases = [case for case in typing.get_args(hint) if dataclasses.is_dataclass(case)]
        if len(cases) > 1:
            oneof = {field.message_type.name: field.message_type for field in below.oneofs[0].fields}
            assert set(oneof) == {case.__name__ for case in cases}
            for case in cases:
                pairs_below(case, oneof[case.__name__], seen)
        elif (nested := inner(hint)) is not None:
            pairs_below(nested, below, seen)
    return seen


@pytest.mark.parametrize(("kind", "message"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_value_and_its_message_have_the_same_fields(kind: Any, message: Any) -> None:
    for each, descriptor in pairs_below(kind, message.DESCRIPTOR, {}).items():
        values = {field.name for field in dataclasses.fields(each)}
        assert values == {field.name for field in descriptor.fields}, each.__name__
        for name, hint in typing.get_type_hints(each).items():
            optional = type(None) in typing.get_args(hint)
            assert not optional or descriptor.fields_by_name[name].has_presence, f"{each.__name__}.{name}"


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(st.none() if a is type(None) else strategy(a) for a in arguments))
    if origin is tuple:
        return st.lists(strategy(arguments[0]), max_size=2).map(tuple)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{f.name: strategy(hints[f.name]) for f in dataclasses.fields(hint)})
    if hint is int:
        return st.integers(-(2**62), 2**62)
    if hint is float:
        return st.floats(allow_nan=False)
    if hint is bool:
        return st.booleans()
    if isinstance(hint, type) and issubclass(hint, str) and hint is not str:
        return st.sampled_from(list(hint))  # type: ignore[call-overload]  # an enum is iterable
    return st.text(max_size=5)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(JobSpec, job_pb2.JobSpec), (DeviceFacts, hardware_pb2.DeviceFacts), (Failure, base_pb2.Failure)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_value_comes_back_as_it_went(kind: Any, message: Any) -> None:
    @settings(max_examples=40, deadline=None)
    @given(strategy(kind))
    def check(value: Any) -> None:
        raw = encode(value, message).SerializeToString()
        assert decode(message.FromString(raw), kind) == value

    check()


@settings(max_examples=40, deadline=None)
@given(st.one_of(*(strategy(kind) for kind in (*WORK, BenchmarkResult, EvaluateResult, Measured))))
def test_a_case_of_a_union_comes_back_as_that_case(value: Any) -> None:
    if isinstance(value, Measured):
        assert decode(encode(value, task_pb2.Measured), Measured) == value
    elif isinstance(value, WORK):
        assert decode_union(encode(value, task_pb2.Work), Work) == value
    else:
        assert decode_union(encode(value, task_pb2.Result), Result) == value


def test_an_empty_union_is_an_error() -> None:
    with pytest.raises(ValueError, match="is the peer newer"):
        decode_union(task_pb2.Work(), Work)
