"""Pools: named selectors over device facts, and the small language they are written in. Not where pools are kept.

    selector  = condition { "and" condition }
    condition = fact ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" ) value

A fact is a field of `DeviceFacts` or of its `CpuFacts`, `GpuFacts` or `PhoneFacts`; a value is a bare word, a number or
a quoted string. `contains` asks for a member of a list of flags or names, or for a part of a text.
"""

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts

Fact = str | int | float | tuple[str, ...] | None


def _number(text: str) -> float | None:
    """None for what is no number: another node's claim must not stop the search for a place."""
    try:
        return float(text)
    except ValueError:
        return None


_FACTS: dict[str, Callable[[DeviceFacts], Fact]] = {
    "abis": lambda facts: facts.phone.abis if facts.phone else (),
    "architecture": lambda facts: facts.hardware.architecture,
    "compute_capability": lambda facts: _number(facts.gpu.compute_capability) if facts.gpu else None,
    "device": lambda facts: facts.device,
    "engines": lambda facts: tuple(engine.name for engine in facts.engines if engine.available),
    "gpu_memory_bytes": lambda facts: facts.gpu.memory_bytes if facts.gpu else None,
    "governor": lambda facts: facts.hardware.governor,
    "int8": lambda facts: facts.hardware.vnni.verdict if facts.hardware.vnni else None,
    "int8_ratio": lambda facts: facts.hardware.vnni.ratio if facts.hardware.vnni else None,
    "isa": lambda facts: facts.isa,
    "kind": lambda facts: facts.kind,
    "logical_cores": lambda facts: facts.hardware.logical_cores,
    "max_khz": lambda facts: facts.hardware.max_khz,
    "memory_bytes": lambda facts: facts.hardware.memory_bytes,
    "model_name": lambda facts: facts.model_name,
    "numerics_isa": lambda facts: facts.numerics_isa,
    "physical_cores": lambda facts: facts.hardware.physical_cores,
    "proven": lambda facts: tuple(
        f"{engine.name}:{proof.precision}" for engine in facts.engines for proof in engine.proofs if proof.passed
    ),
    "soc": lambda facts: facts.phone.soc if facts.phone else None,
    "sockets": lambda facts: facts.hardware.sockets,
    "transport": lambda facts: facts.phone.transport if facts.phone else None,
    "vendor": lambda facts: facts.hardware.vendor,
    "verified": lambda facts: "true" if facts.verified else "false",
}
_NUMBERS = {
    "compute_capability", "gpu_memory_bytes", "int8_ratio", "logical_cores", "max_khz", "memory_bytes",
    "physical_cores", "sockets",
}  # fmt: skip
_LISTS = {"abis", "engines", "isa", "proven"}

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = ("==", "!=", *_ORDER, "contains")
_TOKEN = re.compile(r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<operator>[<>=!]=?)|(?P<word>[^\s<>=!"']+))""")


@dataclass(frozen=True)
class Condition:
    """One comparison of a fact with a value."""

    fact: str
    operator: str
    value: str

    def holds(self, facts: DeviceFacts) -> bool:
        """Whether these facts satisfy it; a fact that is not known satisfies nothing."""
        found = _FACTS[self.fact](facts)
        if found is None:
            return False
        if self.operator == "contains":
            return self.value in found if isinstance(found, tuple) else self.value in str(found)
        if self.operator in _ORDER:
            return _ORDER[self.operator](float(str(found)), float(self.value))
        equal = float(found) == float(self.value) if isinstance(found, int | float) else found == self.value
        return equal is (self.operator == "==")

    def __str__(self) -> str:
        return f"{self.fact} {self.operator} {self.value}"


@dataclass(frozen=True)
class Selector:
    """A conjunction of conditions; without any it selects every device."""

    conditions: tuple[Condition, ...]

    def matches(self, facts: DeviceFacts) -> bool:
        """Whether a device with these facts is selected."""
        return all(condition.holds(facts) for condition in self.conditions)

    def why_not(self, facts: DeviceFacts) -> str:
        """The first condition that fails and what was found instead; empty where the selector matches."""
        for condition in self.conditions:
            if not condition.holds(facts):
                return f"{facts.device}: {condition} does not hold: {condition.fact} is {_shown(facts, condition.fact)}"
        return ""


def _shown(facts: DeviceFacts, fact: str) -> str:
    found = _FACTS[fact](facts)
    if found is None:
        return "not known"
    if isinstance(found, tuple):
        return " ".join(found) or "empty"
    return str(found)


@dataclass(frozen=True)
class _Token:
    text: str
    column: int
    quoted: bool


def _bad(text: str, column: int, what: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.JOB_INVALID, f"selector {text!r}, column {column}: {what}", todo)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            column = position + len(text[position:end]) - len(text[position:end].lstrip()) + 1
            raise _bad(text, column, "a quotation mark that nothing closes", "close the quoted value")
        quoted = found["quoted"]
        raw = quoted or found["operator"] or found["word"]
        tokens.append(_Token(raw[1:-1] if quoted else raw, found.end() - len(raw) + 1, bool(quoted)))
        position = found.end()
    return tokens


def _condition(text: str, tokens: list[_Token], end: int) -> Condition:
    fact = tokens[0]
    if fact.quoted or fact.text not in _FACTS:
        near = difflib.get_close_matches(fact.text, _FACTS, n=1, cutoff=0.0)
        todo = f"did you mean {near[0]!r}? facts are {', '.join(_FACTS)}"
        raise _bad(text, fact.column, f"no fact is called {fact.text!r}", todo)
    sign = tokens[1] if len(tokens) > 1 else _Token("", end, False)
    allowed = _allowed(fact.text)
    if sign.text not in allowed:
        said = f"{sign.text!r}" if sign.text else "the end"
        raise _bad(text, sign.column, f"{said} where {fact.text} must be compared", f"write one of {' '.join(allowed)}")
    value = tokens[2] if len(tokens) > 2 else _Token("", end, False)
    if len(tokens) < 3 or (not value.quoted and value.text in (*_OPERATORS, "and")):
        raise _bad(text, value.column, f"a value is missing after {sign.text}", "write a word, a number or a quotation")
    if fact.text in _NUMBERS and not _is_number(value.text):
        raise _bad(text, value.column, f"{fact.text} is a number, {value.text!r} is not", "write a number")
    if len(tokens) > 3:
        raise _bad(text, tokens[3].column, f"{tokens[3].text!r} where 'and' must follow", "join conditions with 'and'")
    return Condition(fact.text, sign.text, value.text)


def _allowed(fact: str) -> tuple[str, ...]:
    if fact in _LISTS:
        return ("contains",)
    return ("==", "!=", *_ORDER) if fact in _NUMBERS else ("==", "!=", "contains")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", text) is not None


def parse(text: str) -> Selector:
    """Read a selector. Raises QuantfleetError(JOB_INVALID) naming the column (from 1) and the nearest fact."""
    tokens = _tokens(text)
    if not tokens:
        raise _bad(text, 1, "it is empty", "write a condition such as 'kind == cpu'")
    conditions: list[Condition] = []
    part: list[_Token] = []
    for token in tokens:
        if token.text == "and" and not token.quoted:
            if not part:
                raise _bad(text, token.column, "'and' with nothing before it", "write a condition before it")
            conditions.append(_condition(text, part, token.column))
            part = []
        else:
            part.append(token)
    end = len(text.rstrip()) + 1
    if not part:
        raise _bad(text, end, "'and' with nothing after it", "write a condition after it")
    conditions.append(_condition(text, part, end))
    return Selector(tuple(conditions))


@dataclass(frozen=True)
class Pool:
    """A named selector. `selector_text` is the text that `parse` reads."""

    name: str
    selector_text: str

    @property
    def selector(self) -> Selector:
        """The selector that the text says. Raises QuantfleetError(JOB_INVALID)."""
        return parse(self.selector_text)


BUILT_IN_POOLS: tuple[Pool, ...] = (
    Pool("cpu", "kind == cpu"),
    Pool("x86", "kind == cpu and architecture == x86_64"),
    Pool("xeon-vnni", "kind == cpu and model_name contains Xeon and isa contains avx512_vnni"),
    Pool("x86-vnni", "kind == cpu and isa contains avx512_vnni"),
    Pool("arm", "architecture == aarch64"),
    Pool("arm-dotprod", "architecture == aarch64 and isa contains asimddp"),
    Pool("cuda", "kind == cuda"),
    Pool("t4", "kind == cuda and model_name contains T4"),
    Pool("phone", "kind == arm"),
)
"""The pools that a fleet knows from the start."""
