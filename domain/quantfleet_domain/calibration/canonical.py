"""Canonical JSON for what calibration stores, and a reader that says where it is wrong. Not a schema language."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import NoReturn


class MalformedError(ValueError):
    """A document that is not what it should be: where and why. Callers turn it into their own error."""


def canonical_json(document: object) -> bytes:
    """UTF-8 JSON with sorted keys, no whitespace, the shortest decimal that reads back equal for floats, and a newline.

    The same document gives the same bytes on every machine. Raises ValueError for NaN and infinities.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_json(data: bytes) -> "Node":
    """Strict JSON: UTF-8, no NaN, no infinity, no duplicate keys. Raises MalformedError."""
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {error}") from error
    return Node(value, "")


def _refuse_constant(text: str) -> NoReturn:
    raise MalformedError(f"{text} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise MalformedError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice in one object")
    return result


class Node:
    """A value of a parsed JSON document and its place, e.g. `activations[3].lo`. Readers raise MalformedError."""

    def __init__(self, value: object, place: str) -> None:
        self._value = value
        self._place = place

    def malformed(self, expected: str) -> MalformedError:
        """The error for this place, e.g. 'activations[3].lo: expected a number, found "x"'."""
        found = json.dumps(self._value)
        return MalformedError(f"{self._place or 'document'}: expected {expected}, found {found[:60]}")

    def members(self, names: Iterable[str]) -> Mapping[str, "Node"]:
        """An object with exactly these keys."""
        if not isinstance(self._value, dict):
            raise self.malformed("an object")
        expected = set(names)
        prefix = f"{self._place}." if self._place else ""
        for key in sorted(self._value.keys() - expected):
            raise MalformedError(f"{self._place or 'document'}: unknown key {key!r}")
        for key in sorted(expected - self._value.keys()):
            raise MalformedError(f"{self._place or 'document'}: {key} is missing")
        return {key: Node(value, f"{prefix}{key}") for key, value in self._value.items()}

    def entries(self) -> list[tuple[str, "Node"]]:
        """An object's keys, whatever they are, and values."""
        if not isinstance(self._value, dict):
            raise self.malformed("an object")
        prefix = f"{self._place}." if self._place else ""
        return [(key, Node(value, f"{prefix}{key}")) for key, value in self._value.items()]

    def items(self) -> list["Node"]:
        """An array's elements."""
        if not isinstance(self._value, list):
            raise self.malformed("an array")
        return [Node(value, f"{self._place}[{index}]") for index, value in enumerate(self._value)]

    def text(self) -> str:
        """A string that UTF-8 can carry (JSON's escapes can spell half a surrogate pair)."""
        if not isinstance(self._value, str) or any("\ud800" <= character <= "\udfff" for character in self._value):
            raise self.malformed("a string")
        return self._value

    def text_or_null(self) -> str | None:
        """A string or null."""
        return None if self._value is None else self.text()

    def integer(self, minimum: int) -> int:
        """An integer of at least `minimum` that fits in 63 bits."""
        value = self._value
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value < 1 << 63:
            raise self.malformed(f"an integer of at least {minimum}")
        return value

    def number(self) -> float:
        """A finite number."""
        value = self._value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1 << 53:
            return float(value)
        raise self.malformed("a finite number")

    def number_or_null(self) -> float | None:
        """A finite number or null."""
        return None if self._value is None else self.number()
