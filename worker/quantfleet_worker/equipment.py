"""What a node's owner set up for its engines, as `quantfleet worker run` is told. Not what a probe finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Equipment:
    """`kept` is a directory for what engines take long to build. `interpreters` are, by engine, the Pythons of those
    that live in an environment of their own. `phones` is the file that lists the node's phones, None where it has none.
    """

    kept: Path
    interpreters: Mapping[str, str] = field(default_factory=dict)
    phones: Path | None = None
