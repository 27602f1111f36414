"""Reads typed values out of one section of an ACT file and says where one is wrong. Not for what the values mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.preprocessing.fields import nearest


def invalid(where: str, problem: str, todo: str = "") -> QuantfleetError:
    """The error for an ACT file: `where` is a dotted path in it."""
    return QuantfleetError(ErrorCode.JOB_INVALID, f"ACT configuration: {where}: {problem}", todo)


@dataclass(frozen=True)
class Section:
    """A mapping of the file at `path`, read key by key; `finish` then refuses what nobody read."""

    path: str
    values: Mapping[str, Any]
    _read: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, value: Any, path: str) -> "Section":
        """A section; nothing at all is an empty one. Raises QuantfleetError(JOB_INVALID) for what is no mapping."""
        if value is None:
            return cls(path, {})
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise invalid(path, f"expected a mapping, found {type(value).__name__}")
        return cls(path, value)

    def where(self, key: str) -> str:
        """The dotted path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> Any:
        """The value of a key, None where it is absent or empty."""
        self._read.add(key)
        return self.values.get(key)

    def section(self, key: str) -> "Section":
        """The mapping under a key."""
        return Section.of(self.get(key), self.where(key))

    def number(self, key: str, default: float | None = None) -> float | None:
        """A finite number."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
            hint = "YAML reads 1e-5 as text: write 1.0e-5" if isinstance(value, str) else ""
            raise invalid(self.where(key), f"expected a number, found {value!r}", hint)
        return float(value)

    def count(self, key: str, default: int | None = None) -> int | None:
        """A positive whole number."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise invalid(self.where(key), f"expected a positive whole number, found {value!r}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid(self.where(key), f"expected true or false, found {value!r}")
        return value

    def choice(self, key: str, default: str, known: Iterable[str]) -> str:
        """One of a few words."""
        value, known = self.get(key), tuple(known)
        if value is None:
            return default
        if value not in known:
            raise invalid(self.where(key), f"{value!r} is not supported", nearest(str(value), known))
        return str(value)

    def words(self, key: str) -> tuple[str, ...]:
        """One word or a list of them; () where the key is absent."""
        value = self.get(key)
        if value is None:
            return ()
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in items):
            raise invalid(self.where(key), f"expected a list of names, found {value!r}")
        return tuple(items)

    def ignore(self, keys: Iterable[str], reason: str) -> list[str]:
        """Read keys that have no effect here; returns a line about each that is there."""
        present = [key for key in keys if key in self.values]
        self._read.update(present)
        return [f"{self.where(key)}: {reason}" for key in present]

    def finish(self, also: Iterable[str] = ()) -> None:
        """Raise QuantfleetError(JOB_INVALID) for the first key that was not read, with the nearest that could be."""
        for key in self.values:
            if key not in self._read:
                raise invalid(self.where(key), "unknown key", nearest(key, {*self._read, *also}))
