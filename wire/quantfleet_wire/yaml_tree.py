"""YAML with places: every value knows its line and column, so that every error names them. Not for what keys mean."""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from quantfleet_domain.errors import ErrorCode, QuantfleetError

T = TypeVar("T")
_TAG = "tag:yaml.org,2002:"
_NAMES = {"map": "a mapping", "seq": "a list", "null": "nothing"}


@dataclass(frozen=True)
class Document:
    """What a file is to its reader: `source` is what errors call it, empty where no user wrote it.

    `noun` says what it describes, and `code` is that of its errors where none is named.
    """

    source: str
    noun: str = "job"
    code: ErrorCode = ErrorCode.JOB_INVALID


def parse(text: str, document: Document, path: str = "") -> "Value":
    """The root value of a YAML document. `path` is what its keys are below in errors.

    Raises QuantfleetError with the document's code.
    """
    source = document.source
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        what = f"{place}: this is no YAML: {error.problem or error.context}"
        raise QuantfleetError(document.code, what, "mend the file there") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{source}:{before.count(chr(10)) + 1}:{error.position - before.rfind(chr(10))}"
        what = f"{place}: a control character, U+{int(error.character):04X}, stands there"
        raise QuantfleetError(document.code, what, "remove it") from error
    except RecursionError as error:
        what = f"{source}: its values are nested too deeply"
        todo = f"write a {document.noun} as the guide shows"
        raise QuantfleetError(document.code, what, todo) from error
    if root is None:
        todo = f"describe a {document.noun} in it"
        raise QuantfleetError(document.code, f"{source}:1:1: the file is empty", todo)
    return Value(root, document, path)


class Value:
    """One YAML value, its place in the file, and its path of keys (`calibration.data.limit`) for errors."""

    def __init__(self, node: Node, document: Document, path: str) -> None:
        self._node = node
        self._document = document
        self._path = path

    @property
    def place(self) -> str:
        """`file:line:column`, both from 1; empty for a document that no user wrote."""
        if not self._document.source:
            return ""
        mark = self._node.start_mark
        return f"{self._document.source}:{mark.line + 1}:{mark.column + 1}"

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping of keys to values."""
        return isinstance(self._node, MappingNode)

    def error(self, what: str, todo: str, code: ErrorCode | None = None) -> QuantfleetError:
        """An error at this place, with the document's code unless told."""
        return QuantfleetError(code or self._document.code, f"{self.place}: {what}" if self.place else what, todo)

    def mapping(self, known: Iterable[str] | None = None) -> dict[str, "Value"]:
        """The values by key. A key outside `known` is an error that names the nearest known one; so is a second one."""
        if not isinstance(self._node, MappingNode):
            raise self._wanted("a mapping of keys to values")
        names = None if known is None else list(known)
        found: dict[str, Value] = {}
        for key_node, value_node in self._node.value:
            key = Value(key_node, self._document, self._path)
            name = key._key()
            if names is not None and name not in names:
                where = f"{self._path} has" if self._path else f"a {self._document.noun} has"
                raise key.error(f"{where} no key {name!r}", nearest(name, names))
            if name in found:
                raise key.error(f"{name!r} stands here a second time", "keep one of them")
            found[name] = Value(value_node, self._document, f"{self._path}.{name}" if self._path else name)
        return found

    def items(self) -> "list[Value]":
        """The items of a list."""
        if not isinstance(self._node, SequenceNode):
            raise self._wanted("a list")
        return [Value(node, self._document, f"{self._path}[{i}]") for i, node in enumerate(self._node.value)]

    def text(self) -> str:
        """A text that is not empty."""
        value = self._scalar("a text")
        if not isinstance(value, str) or not value.strip():
            raise self._wanted("a text")
        return value

    def word(self) -> str:
        """A text as it stands there, even where YAML takes it for a number: a serial number."""
        if not isinstance(self._node, ScalarNode) or not str(self._node.value).strip():
            raise self._wanted("a text")
        return str(self._node.value)

    def boolean(self) -> bool:
        """True or false."""
        value = self._scalar("true or false")
        if not isinstance(value, bool):
            raise self._wanted("true or false")
        return value

    def count(self, least: int) -> int:
        """A whole number, `least` or more."""
        wanted = f"a whole number from {least} on"
        value = self._scalar(wanted)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**53:
            raise self._wanted(wanted)
        return value

    def number(self) -> float:
        """A finite number."""
        value = self._scalar("a number")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wanted("a number")
        return float(value)

    def choice(self, what: str, known: Sequence[str]) -> str:
        """One of the known names; an error offers the nearest."""
        name = self.text()
        if name not in known:
            raise self.error(f"there is no {what} {name!r}", nearest(name, known))
        return name

    def each(self, read: "Callable[[Value], T]", what: str) -> tuple[T, ...]:
        """Every item of a list that is not empty, none of them twice."""
        items = self.items()
        if not items:
            raise self.error(f"{self._path} is an empty list", f"give at least one {what}, or leave the key out")
        found: list[T] = []
        for item in items:
            value = read(item)
            if value in found:
                raise item.error(f"{value!r} stands in this list a second time", "keep one of them")
            found.append(value)
        return tuple(found)

    def path(self, base: Path) -> Path:
        """A path, relative to `base` unless it is absolute."""
        return base / Path(self.text()).expanduser()

    def _key(self) -> str:
        if not isinstance(self._node, ScalarNode):
            raise self.error("a key must be a text", "write `key: value`")
        return str(self._node.value)

    def _scalar(self, wanted: str) -> Any:
        if not isinstance(self._node, ScalarNode):
            raise self._wanted(wanted)
        try:
            return SafeConstructor().construct_object(self._node)
        except (yaml.YAMLError, ValueError, OverflowError):
            raise self._wanted(wanted) from None

    def _wanted(self, wanted: str) -> QuantfleetError:
        kind = str(self._node.tag).removeprefix(_TAG)
        shown = _NAMES.get(kind) or repr(str(self._node.value)[:60])
        name = self._path or f"the {self._document.noun}"
        return self.error(f"{name} is {shown}", f"give {wanted}")


def nearest(name: str, known: Sequence[str]) -> str:
    """What to do about an unknown name: the most similar known one first, then all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"there are {', '.join(known)}"
