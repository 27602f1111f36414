"""The JSON Schema of the report, made from the dataclasses so that the two cannot disagree. Not a validator."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from quantfleet_domain.reporting.codec import is_optional_field, union_members
from quantfleet_domain.reporting.making import Calibration
from quantfleet_domain.reporting.report import (
    SCHEMA,
    Report,
)

_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a report file. Members that it does not name are allowed: fields may be added."""
    definitions: dict[str, Any] = {}
    root = _object(Report, definitions)
    one = _of(Calibration, definitions)
    root["properties"] = {"schema": {"const": SCHEMA}, **root["properties"]}
    root["properties"]["calibration"] = {
        "description": "Null without calibration, one object in a job of one model, else an object keyed by model.",
        "anyOf": [{"type": "null"}, one, {"type": "object", "additionalProperties": one}],
    }
    root["required"] = ["schema", *root["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    members = union_members(hint)
    if len(members) > 1:
        return {"anyOf": [_of(member, definitions) for member in members]}
    if is_dataclass(hint):
        name = hint.__name__ if isinstance(hint, type) else type(hint).__name__
        if name not in definitions:
            definitions[name] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{name}"}
    origin = get_origin(hint)
    if origin is tuple:
        return {"type": "array", "items": _of(get_args(hint)[0], definitions)}
    if origin is not None:
        return {"type": "object", "additionalProperties": _of(get_args(hint)[1], definitions)}
    return {"type": _SCALARS[hint]}


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": {field.name: _of(hints[field.name], definitions) for field in fields(kind)},
        "required": [field.name for field in fields(kind) if not is_optional_field(field)],
    }
