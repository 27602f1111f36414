"""Reads typed values out of a parsed YAML mapping and says where one is wrong. Not for what the values mean."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_EXPRESSION = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(?:([*/])\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*)?")


def invalid(where: str, problem: str, todo: str = "") -> QuantfleetError:
    """The error for a preprocessing file: `where` is a dotted path in it."""
    return QuantfleetError(ErrorCode.PREPROCESS_INVALID, f"preprocessing: {where}: {problem}", todo)


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}"


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value` as a mapping with text keys; nothing at all is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise invalid(where, f"expected a mapping, found {type(value).__name__}")
    return value


def known_keys(value: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse the first key that is not among the known ones."""
    names = set(known)
    for key in value:
        if key not in names:
            raise invalid(f"{where}.{key}", "unknown key", nearest(key, names))


def boolean(value: Any, where: str) -> bool:
    """`value` as a truth value."""
    if not isinstance(value, bool):
        raise invalid(where, f"expected True or False, found {value!r}")
    return value


def pixels(value: Any, where: str) -> int:
    """`value` as a positive number of pixels."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise invalid(where, f"expected a positive whole number, found {value!r}")
    return value


def width_height(value: Any, where: str) -> tuple[int, int]:
    """One number for a square, or two in the file's order, which PaddleClas and PaddleSeg have as [width, height]."""
    if isinstance(value, list):
        if len(value) != 2:
            raise invalid(where, f"expected one number or a pair, found {value!r}")
        return pixels(value[0], f"{where}[0]"), pixels(value[1], f"{where}[1]")
    side = pixels(value, where)
    return side, side


def number(value: Any, where: str) -> float:
    """A number, or one written as `1.0/255.0` or `2*0.5`, without evaluating text as code."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = _EXPRESSION.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError
        left, operator, right = match.groups()
        if operator is None:
            return float(left)
        return float(left) / float(right) if operator == "/" else float(left) * float(right)
    except (ValueError, ZeroDivisionError):
        raise invalid(where, f"expected a number or a quotient like 1.0/255.0, found {value!r}") from None


def channel_values(value: Any, where: str) -> tuple[float, ...]:
    """Three numbers, one per colour channel."""
    if not isinstance(value, list) or len(value) != 3:
        raise invalid(where, f"expected three numbers, one per channel, found {value!r}")
    return tuple(number(item, f"{where}[{index}]") for index, item in enumerate(value))


def deviations(value: Any, where: str) -> tuple[float, ...]:
    """Three standard deviations, none of them 0."""
    found = channel_values(value, where)
    if 0.0 in found:
        raise invalid(where, "a standard deviation of 0 divides by zero")
    return found


def choice(value: Any, known: Mapping[str, int], where: str) -> int:
    """What one of the known names stands for."""
    if value not in known:
        raise invalid(where, f"unknown: {value!r}", nearest(str(value), known))
    return known[value]


def only(arguments: Mapping[str, Any], key: str, offered: object, where: str) -> None:
    """Accept a key that the file's own tool knows where it says what is done here anyway."""
    if key in arguments and arguments[key] != offered:
        raise invalid(f"{where}.{key}", f"only {offered!r} is supported, found {arguments[key]!r}")


def required(arguments: Mapping[str, Any], key: str, where: str) -> Any:
    """The value of a key that must be there."""
    if key not in arguments:
        raise invalid(where, f"{key} is missing")
    return arguments[key]


def typed_steps(listed: Any, known: Iterable[str], where: str) -> list[tuple[str, dict[str, Any], str]]:
    """(name, arguments, path) of every item of a list of mappings with a `type`; nothing at all is an empty list."""
    if listed is not None and not isinstance(listed, list):
        raise invalid(where, f"expected a list of operators, found {type(listed).__name__}")
    steps = []
    for index, entry in enumerate(listed or ()):
        place = f"{where}[{index}]"
        arguments = dict(mapping(entry, place))
        name = str(arguments.pop("type", ""))
        if name not in known:
            raise invalid(f"{place}.type", f"unknown operator {name!r}", nearest(name, known))
        steps.append((name, arguments, place))
    return steps
