"""Reads tables of a flatbuffer by field number. Not for writing one, nor for knowing any schema.

The format is that of https://flatbuffers.dev/internals: offsets are little-endian and relative to where they stand; a
table begins with the distance back to its vtable, which has a place in the table for each field, 0 for one left out.
"""

import struct
from typing import Any


class Table:
    """One table. A field that is left out has its type's zero. Raises struct.error where the bytes are no such table.

    Field numbers count from 0 in the order of the schema; a union takes two.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._number("<i", at)
        self._vtable_bytes = self._number("<H", self._vtable)

    @classmethod
    def root(cls, data: bytes) -> "Table":
        """The table that a buffer is all about."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def text(self, field: int) -> str:
        """A string."""
        at = self._pointed(field)
        return bytes(self._bytes(at)).decode(errors="replace") if at else ""

    def texts(self, field: int) -> list[str]:
        """A vector of strings."""
        return [bytes(self._bytes(place)).decode(errors="replace") for place in self._places(field)]

    def tables(self, field: int) -> "list[Table]":
        """A vector of tables."""
        return [Table(self._data, place) for place in self._places(field)]

    def integer(self, field: int) -> int:
        """An int32."""
        at = self._place(field)
        return self._number("<i", at) if at else 0

    def table(self, field: int) -> "Table":
        """One table, which must be there."""
        if at := self._pointed(field):
            return Table(self._data, at)
        raise struct.error(f"table {field} is left out")

    def floats(self, field: int) -> tuple[float, ...]:
        """A vector of float32."""
        return self._vector(field, "f")

    def longs(self, field: int) -> tuple[int, ...]:
        """A vector of int64."""
        return self._vector(field, "q")

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        offset = self._number("<H", self._vtable + entry) if entry < self._vtable_bytes else 0
        return self._at + offset if offset else 0

    def _pointed(self, field: int) -> int:
        at = self._place(field)
        return at + self._number("<I", at) if at else 0

    def _places(self, field: int) -> list[int]:
        at = self._pointed(field)
        offsets = range(at + 4, at + 4 + 4 * self._number("<I", at), 4) if at else ()
        return [offset + self._number("<I", offset) for offset in offsets]

    def _vector(self, field: int, kind: str) -> tuple[Any, ...]:
        at = self._pointed(field)
        return struct.unpack_from(f"<{self._number('<I', at)}{kind}", self._data, at + 4) if at else ()

    def _bytes(self, at: int) -> memoryview:
        count = self._number("<I", at)
        if at + 4 + count > len(self._data):
            raise struct.error("a string reaches beyond the buffer")
        return memoryview(self._data)[at + 4 : at + 4 + count]

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error("an offset leads out of the buffer")
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value
