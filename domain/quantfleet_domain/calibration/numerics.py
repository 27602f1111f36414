"""A numerics class read from JSON: its fields by name, as `asdict` writes them. Not for what belongs to it."""

from dataclasses import fields

from quantfleet_domain.calibration.canonical import Node
from quantfleet_domain.calibration.graph import NumericsClass


def read_numerics(node: Node) -> NumericsClass:
    """The numerics class of its JSON object; a number that is not known is 0. Raises MalformedError."""
    found = node.members(field.name for field in fields(NumericsClass))
    return NumericsClass(
        engine=found["engine"].text(),
        engine_version=found["engine_version"].text(),
        isa=found["isa"].text(),
        model=found["model"].text(),
        recipe=found["recipe"].text(),
        preprocessing=found["preprocessing"].text(),
        statistic_version=found["statistic_version"].integer(0),
        threads=found["threads"].integer(0),
        batch=found["batch"].integer(0),
    )
