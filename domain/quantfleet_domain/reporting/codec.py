"""Frozen dataclasses to JSON values and back, driven by their annotations. Not for files, and not for the wire."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_JSON_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
_WANTED = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


class UnfitError(Exception):
    """A JSON value does not fit the annotation; the message says where (`results[2].latency_ms.p99`) and why."""


def to_value(value: object) -> Any:
    """The JSON value of a dataclass, mapping, tuple or scalar: fields in their order, mapping keys sorted."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_value(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [to_value(item) for item in value]
    return value


def from_value(kind: type[T], value: object, where: str) -> T:
    """Build a `kind` from a JSON value; members that `kind` does not know are left out. Raises UnfitError."""
    made: T = _typed(kind, value, where)
    return made


def is_optional_field(field: Field[Any]) -> bool:
    """Whether a document may leave the field out."""
    return field.default is not MISSING or field.default_factory is not MISSING


def union_members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation: `(int, NoneType)` for `int | None`, itself for anything but a union."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _typed(hint: Any, value: object, where: str) -> Any:
    members = union_members(hint)
    if len(members) > 1:
        return _any_of(members, value, where)
    if is_dataclass(hint):
        return _object(hint, value, where)
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise UnfitError(f"{where} is {_name(value)}, not a list")
        return tuple(_typed(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None:
        if not isinstance(value, dict):
            raise UnfitError(f"{where} is {_name(value)}, not an object")
        return {key: _typed(get_args(hint)[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type] # it is an int or a float
    if type(value) is not hint:
        raise UnfitError(f"{where} is {_name(value)}, not {_WANTED[hint]}")
    return value


def _any_of(members: tuple[Any, ...], value: object, where: str) -> Any:
    others = [member for member in members if member is not type(None)]
    if value is None and len(others) < len(members):
        return None
    for member in others[:-1]:
        try:
            return _typed(member, value, where)
        except UnfitError:
            continue
    return _typed(others[-1], value, where)


def _object(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise UnfitError(f"{where} is {_name(value)}, not an object")
    hints = get_type_hints(kind)
    known: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in value:
            known[field.name] = _typed(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif not is_optional_field(field):
            raise UnfitError(f"{where}.{field.name} is missing")
    return kind(**known)


def _name(value: object) -> str:
    return _JSON_NAMES.get(type(value)) or repr(value)
