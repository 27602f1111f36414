"""Facts about hardware, conditions and numerics as a report has them. Not for finding them out."""

from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.reporting.codec import to_value

Fact = bool | int | float | str | tuple[str, ...]
"""A fact about hardware, conditions or numerics."""


def facts_of_device(facts: DeviceFacts) -> dict[str, Fact]:
    """What a device is: its processor, before that the GPU or the phone where it is one, and its name as `model_name`.

    A GPU's host is told as `host.model_name` and so on.
    """
    processor = facts_of(facts.hardware)
    if facts.gpu:
        return {
            "model_name": facts.model_name,
            **{f"gpu.{name}": value for name, value in facts_of(facts.gpu).items()},
            **{f"host.{name}": value for name, value in processor.items()},
        }
    if facts.phone:
        phone = {f"phone.{name}": value for name, value in facts_of(facts.phone).items()}
        return {**processor, "model_name": facts.model_name, **phone}
    return processor


def facts_of(value: object) -> dict[str, Fact]:
    """The fields of a frozen dataclass as facts: nested ones as `vnni.ratio`, what is None or empty left out."""
    found: dict[str, Fact] = {}
    for name, fact in to_value(value).items():
        if isinstance(fact, dict):
            inner = ((key, tuple(value) if isinstance(value, list) else value) for key, value in fact.items())
            found.update({f"{name}.{key}": value for key, value in inner if value not in (None, ())})
        elif isinstance(fact, list):
            found[name] = tuple(str(item) for item in fact)
        elif fact is not None and fact != "":
            found[name] = fact
    return found
