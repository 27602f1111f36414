"""Between domain values and messages, by structure: a dataclass maps to the message that has its fields' names.

Not for messages that have no domain value (requests and responses are built where they are used). A test proves that
every mapped pair has the same fields, so that a field added on one side only is found at once.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def encode(value: Any, kind: type[M]) -> M:
    """A dataclass as a message of class `kind`. A union is a message with one `oneof`, its cases named as the classes.

    None leaves an optional field absent; tuples become repeated fields.
    """
    message = kind()
    _fill(message, value)
    return message


def _fill(message: Any, value: Any) -> None:
    case = _case(value.__class__)
    if case in message.DESCRIPTOR.fields_by_name and type(value).__name__ != message.DESCRIPTOR.name:
        target = getattr(message, case)
        target.SetInParent()
        _fill(target, value)
        return
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item is None:
            continue
        if isinstance(item, tuple):
            _extend(getattr(message, field.name), item)
        elif dataclasses.is_dataclass(item):
            target = getattr(message, field.name)
            target.SetInParent()
            _fill(target, item)
        else:
            setattr(message, field.name, item)


def _extend(target: Any, items: tuple[Any, ...]) -> None:
    for item in items:
        if dataclasses.is_dataclass(item):
            _fill(target.add(), item)
        else:
            target.append(item)


def decode(message: Message, kind: type[T]) -> T:
    """The dataclass `kind` that a message holds. Absent optional fields become None."""
    return typing.cast("T", _read(message, kind))


def decode_union(message: Message, union: types.UnionType) -> Any:
    """The value of a message with one `oneof`, as one of the union's classes. Raises ValueError where none is set."""
    for kind in typing.get_args(union):
        if message.HasField(_case(kind)):
            return _read(getattr(message, _case(kind)), kind)
    raise ValueError(f"a {message.DESCRIPTOR.name} message holds none of its cases; is the peer newer?")


def _read(message: Any, kind: Any) -> Any:
    values: dict[str, Any] = {}
    for name, hint in _hints(kind).items():
        inner, optional = _optional(hint)
        if optional and not message.HasField(name):
            values[name] = None
        else:
            values[name] = _value(getattr(message, name), inner)
    return kind(**values)


def _value(raw: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return decode_union(raw, hint)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_value(each, item) for each in raw)
    if dataclasses.is_dataclass(hint):
        return _read(raw, hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(raw)
    return raw


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _optional(hint: Any) -> tuple[Any, bool]:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union) and type(None) in arguments:
        return next(a for a in arguments if a is not type(None)), True
    return hint, False


@cache
def _case(kind: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
