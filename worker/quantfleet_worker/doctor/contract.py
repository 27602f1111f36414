"""What every engine must do, as checks for the worker's doctor and for the tests alike. Not for timing.

A check is a function named by what it finds true. It returns what it saw, where that is worth telling, and raises
`BrokenError` with the difference otherwise.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.precisions import is_int8
from quantfleet_worker.engines.base import Array, Engine, LoadOptions, Session

BOUNDS = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
"""How far outputs may be from the reference engine's, as a share of its largest; 0.1 for quantized models."""
_QUANTIZED_BOUND = 0.1


Load = Callable[[LoadOptions], Session]


class BrokenError(Exception):
    """An engine does not do what its contract says."""


@dataclass(frozen=True)
class Subject:
    """An engine and a small network for it, with at least one convolution and one float32 input, of any batch.

    `load` loads it in `precision`; `sample` is an input of batch 1 and `reference` what the reference engine's FP32
    makes of it; `unreadable` is a path whose content no runtime accepts. `threads` is how many can be asked for.
    """

    engine: Engine
    precision: str
    load: Load
    sample: Array
    reference: Array
    unreadable: Path
    threads: int

    def session(self, batch: int = 1, threads: int = 1) -> Session:
        """The network in the precision that is looked at."""
        return self.load(LoadOptions(self.precision, threads, batch))

    def mirrored(self) -> Array:
        """Another input."""
        return np.ascontiguousarray(self.sample[:, :, ::-1])


def its_version_is_known(subject: Subject) -> str:
    """Reports and facts name it."""
    _require(subject.engine.version()[:1].isdigit(), f"its version is {subject.engine.version()!r}")
    return ""


def its_input_is_described(subject: Subject) -> str:
    """Shape and type, by name; a batch that is fixed is the one it was loaded for."""
    ((shape, dtype),) = subject.session().inputs.values()
    _require(shape[0] in (None, 1), f"its batch is {shape[0]}")
    _require(shape[1:] == subject.sample.shape[1:], f"its shape is {shape}, not {subject.sample.shape}")
    _require(dtype == np.float32, f"its type is {dtype}")
    return ""


def it_agrees_with_the_reference_engine(subject: Subject) -> str:
    """Within `BOUNDS`; and a quantized model is no float one in disguise."""
    found = _first(subject.session(), subject.sample)
    _require(found.shape == subject.reference.shape, f"its output is {found.shape}, not {subject.reference.shape}")
    largest = float(np.abs(subject.reference).max())
    share = float(np.abs(found - subject.reference).max()) / largest
    bound = BOUNDS.get(subject.precision, _QUANTIZED_BOUND)
    _require(share <= bound, f"its output is off by {share:.3g} of the reference's largest, and {bound:g} is allowed")
    if subject.precision not in BOUNDS:
        _require(share > 0, "its output is FP32's to the bit: nothing was quantized")
    return f"within {share:.2g} of the reference's largest output ({bound:g} allowed)"


def a_sample_is_the_same_alone_and_in_a_batch(subject: Subject) -> str:
    """Neither its place in the batch nor its neighbours matter, but for rounding."""
    both = _first(subject.session(batch=2), np.concatenate([subject.sample, subject.mirrored()]))
    alone = subject.session()
    bound = 0.1 * BOUNDS.get(subject.precision, _QUANTIZED_BOUND) * float(np.abs(subject.reference).max())
    for index, sample in enumerate((subject.sample, subject.mirrored())):
        off = float(np.abs(both[index : index + 1] - _first(alone, sample)).max())
        _require(off <= bound, f"sample {index + 1} of a batch of two differs by {off:.3g} from itself alone")
    return ""


def a_bound_batch_gives_the_same_bits_again(subject: Subject) -> str:
    """Running is repeatable, as a measurement takes for granted."""
    session = subject.session()
    session.bind({next(iter(session.inputs)): subject.sample})
    session.run_bound()
    first = session.outputs()
    session.run_bound()
    for name, values in session.outputs().items():
        _require(values.tobytes() == first[name].tobytes(), f"output {name} has other bits the second time")
    return ""


def a_run_outlasts_its_parts(subject: Subject) -> str:
    """What the device's clock says of the parts fits into what this host's says of the whole: a run that returned
    before the device was done would be timed too short. Both clocks may differ by a hundredth."""
    session = subject.session()
    session.bind({next(iter(session.inputs)): subject.sample})
    session.run_bound()
    start = time.perf_counter_ns()
    session.run_bound()
    whole = time.perf_counter_ns() - start
    parts = sum(session.parts_ns().values())
    _require(parts <= whole * 1.01, f"its parts take {parts} ns together, and the run took {whole} ns")
    return ""


def outputs_belong_to_the_caller(subject: Subject) -> str:
    """A later run does not change them."""
    session = subject.session()
    first = _first(session, subject.sample)
    kept = first.copy()
    second = _first(session, subject.mirrored())
    _require(np.array_equal(first, kept), "a later run changed the outputs of an earlier one")
    _require(not np.array_equal(first, second), "two different inputs give the same outputs")
    return ""


def settings_are_text(subject: Subject) -> str:
    """As a report shows them; an engine on a CPU names its threads."""
    settings = subject.session(threads=subject.threads).settings_in_effect()
    _require(all(isinstance(part, str) for item in settings.items() for part in item), f"they are {settings}")
    if subject.engine.kind == "cpu":
        named = any("threads" in name and value == str(subject.threads) for name, value in settings.items())
        _require(named, f"{subject.threads} thread(s) were asked for, and its settings are {settings}")
    return ""


def the_products_of_int8_are_accounted_for(subject: Subject) -> str:
    """By the engine's own account some product runs in INT8, and each that does not is named; in FP32 none does."""
    session = subject.session()
    _first(session, subject.sample)
    counts = session.node_counts()
    if not is_int8(subject.precision):
        _require(counts.int8 == 0, f"{counts.int8} products of a float model run in INT8")
        return ""
    if not counts.quantizable and counts.fallbacks:
        return f"which products run in INT8 cannot be told: {counts.fallbacks[0]}"
    _require(0 < counts.int8 <= counts.quantizable, f"{counts.int8} of {counts.quantizable} products run in INT8")
    left = counts.quantizable - counts.int8
    _require(len(counts.fallbacks) == left, f"{left} products fell back, and {len(counts.fallbacks)} are named")
    return f"{counts.int8} of {counts.quantizable} products in INT8"


def a_wrong_shape_is_an_error_that_names_the_input(subject: Subject) -> str:
    """Not a crash, and not a result."""
    session = subject.session()
    name = next(iter(session.inputs))
    shape = (1, subject.sample.shape[1] + 1, *subject.sample.shape[2:])
    try:
        session.run({name: np.zeros(shape, np.float32)})
    except QuantfleetError as error:
        _require(error.code is ErrorCode.ENGINE_FAILED and name in error.what, f"it says {error.code}: {error.what}")
        return ""
    raise BrokenError(f"it takes a tensor of shape {shape}")


def what_is_no_model_is_unreadable(subject: Subject) -> str:
    """Not a crash."""
    try:
        subject.engine.load(subject.unreadable, LoadOptions("fp32", threads=1))
    except QuantfleetError as error:
        _require(error.code is ErrorCode.MODEL_UNREADABLE, f"it says {error.code}: {error.what}")
        return ""
    raise BrokenError("it loads what is no model")


CHECKS: tuple[Callable[[Subject], str], ...] = (
    its_version_is_known,
    its_input_is_described,
    it_agrees_with_the_reference_engine,
    the_products_of_int8_are_accounted_for,
    a_sample_is_the_same_alone_and_in_a_batch,
    a_bound_batch_gives_the_same_bits_again,
    a_run_outlasts_its_parts,
    outputs_belong_to_the_caller,
    settings_are_text,
    a_wrong_shape_is_an_error_that_names_the_input,
    what_is_no_model_is_unreadable,
)


ON_PHONES = tuple(
    check
    for check in CHECKS
    # Nothing of a phone's engine is in this process: its version and its refusals are those of the phone's own tool.
    if check
    not in (its_version_is_known, a_wrong_shape_is_an_error_that_names_the_input, what_is_no_model_is_unreadable)
)


def words(check: Callable[[Subject], str]) -> str:
    """A check's name as people read it."""
    return check.__name__.replace("_", " ")


def _first(session: Session, batch: Array) -> Array:
    """A session's first output for a batch given to its first input."""
    (result, *_) = session.run({next(iter(session.inputs)): batch}).values()
    return result


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenError(otherwise)
