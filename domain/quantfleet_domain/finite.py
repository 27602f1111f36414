"""Finds numbers that are none in what came from elsewhere. Not for what else may be wrong with it."""

import math
from dataclasses import fields, is_dataclass


def not_finite(value: object, where: str = "") -> str:
    """Which field of a dataclass, and of those within it, is infinite or no number: `rows.latency.mean is nan`.

    Empty where all are finite. JSON has no such numbers, so that a report could not be written with one.
    """
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{where} is {value}"
    if isinstance(value, tuple):
        return next(filter(None, (not_finite(item, where) for item in value)), "")
    if is_dataclass(value):
        inner = ((field.name, getattr(value, field.name)) for field in fields(value))
        return next(filter(None, (not_finite(item, f"{where}.{name}".lstrip(".")) for name, item in inner)), "")
    return ""
