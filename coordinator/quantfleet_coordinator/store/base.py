"""The contract of a store: commits that are atomic and durable, reads in key order. Not for what is kept or when.

Every implementation passes tests/contract/store_contract.py.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin

from quantfleet_domain.errors import ErrorCode, QuantfleetError


class Record(Protocol):
    """A frozen dataclass with fields of type str, int, float, bool or bytes; `KEY` names those of its primary key."""

    KEY: ClassVar[tuple[str, ...]]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


R = TypeVar("R", bound=Record)
Value = str | int | float | bool | bytes
Key = tuple[Value, ...]


class Store(ABC):
    """What was acknowledged survives any crash. Thread-safe; every call may block on the disk."""

    @abstractmethod
    def commit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Key]] = ()) -> None:
        """Delete, then put, all of it or nothing; it is durable when this returns.

        `deletes` holds (kind, key) pairs; a key that is not stored is no error. A put replaces the record of the same
        key; the last of several puts of one key wins; a key that is both deleted and put is stored afterwards.

        Raises STORAGE_FULL when the disk is, STORE_FAILED for anything else: a record of an unknown kind or with a
        value that not every store can hold (see `columns`), or a database that fails. The store goes on serving.
        """

    @abstractmethod
    def all(self, kind: type[R]) -> list[R]:
        """Every record of a kind, in the order of its key (text by code point). Raises STORE_FAILED."""

    @abstractmethod
    def get(self, kind: type[R], *key: Value) -> R | None:
        """The record with this key (values in the order of `KEY`), or None where there is none. Raises STORE_FAILED."""

    @abstractmethod
    def where(self, kind: type[R], **equals: Value) -> list[R]:
        """The records whose fields equal all of these, in the order of the key. Raises STORE_FAILED."""

    @abstractmethod
    def close(self) -> None:
        """Release the store; closing twice is no error."""


def key_of(record: Record) -> Key:
    """The values of a record's primary key, in the order of `KEY`."""
    return tuple(getattr(record, name) for name in record.KEY)


def columns(record: Record) -> dict[str, Value]:
    """A record's values by field, each exactly of the field's type (an enum member becomes its value).

    Raises STORE_FAILED for what not every store can hold: another type, text with U+0000 or lone surrogates, NaN, an
    integer of more than 64 bits.
    """
    return {field.name: _checked(type(record), field, getattr(record, field.name)) for field in fields(record)}


def storable(text: str) -> str:
    """Text from elsewhere, such as an engine's message, without what not every store can hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def type_of(field: "Field[Any]") -> type[Value]:
    """The plain type of a record's field; that of its values where the field is annotated as a `Literal`."""
    if get_origin(field.type) is Literal:
        return type(get_args(field.type)[0])
    assert isinstance(field.type, type)
    return field.type


def unknown_kind(kind: type[Record]) -> QuantfleetError:
    """The error for a kind of record that a store was not opened with."""
    return QuantfleetError(ErrorCode.STORE_FAILED, f"the store does not keep {kind.__name__}: add it to KINDS")


def _checked(kind: type[Record], field: "Field[Any]", value: object) -> Value:
    held: Value | None = None
    expected = type_of(field)
    if expected is str and isinstance(value, str):
        held = str(value) if "\0" not in value and _is_unicode(value) else None
    elif expected is float and isinstance(value, int | float):
        held = None if math.isnan(value) else float(value)
    elif expected is bool and isinstance(value, bool):
        held = value
    elif expected is int and isinstance(value, int):
        held = int(value) if -(2**63) <= value < 2**63 else None
    elif expected is bytes and isinstance(value, bytes):
        held = value
    if held is None:
        what = f"{kind.__name__}.{field.name} cannot hold {value!r:.80}"
        raise QuantfleetError(ErrorCode.STORE_FAILED, what, "this is a fault of the program: report it")
    return held


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
