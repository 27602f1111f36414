"""Which collector counts here: the compiled tap where it works, else numpy. Not what they do."""

from pathlib import Path

from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_worker.collecting import tap_library
from quantfleet_worker.collecting.collector import Collector
from quantfleet_worker.collecting.native_collector import NativeCollector
from quantfleet_worker.collecting.numpy_collector import NumpyCollector


def collector(reference: Path, graph: CalibrationGraph, numerics: NumericsClass) -> Collector:
    """The fastest collector for the tensors of `graph` in the ONNX graph `reference`, with statistics of `numerics`.

    Raises QuantfleetError(ENGINE_FAILED).
    """
    try:
        return NativeCollector(tap_library.load(), reference, graph, numerics)
    except tap_library.TapUnavailableError as error:
        return NumpyCollector(reference, graph, numerics, f"the compiled tap is not in use: {error}")
