"""The compiled tap (`tap.c`): whether it is there and counts right with this ONNX Runtime. Not the collecting."""

import ctypes
import faulthandler
import functools
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quantfleet_domain.calibration.statistic import BINS, bin_of
from quantfleet_domain.errors import QuantfleetError
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.models import reference_session

NAME = "native-tap"
DOMAIN = "quantfleet"
_FOLDER = Path(__file__).parent
LIBRARY = _FOLDER / "_tap.so"

# These mirror `struct tap` and the constants in counting.h.
_LANES = 32
_TAP = np.dtype(
    {
        "names": ["hot", "counts", "totals", "waiting", "pending", "spills", "extremes_only", "lowest", "highest"],
        "formats": [np.uintp, np.uintp, np.uintp, np.uint64, np.uint64, np.uint64, np.uint64, np.int32, np.int32],
    },
    align=True,
)
_INT32 = np.iinfo(np.int32)
EMPTY = _INT32.max  # no finite value sorts there
_MAGNITUDE = 0x7FFFFFFF
_LARGEST_FINITE = 0x7F7FFFFF  # the bits of the largest float32
_TEST_SECONDS = 30.0


class TapUnavailableError(Exception):
    """The tap cannot be used here; its text is the reason."""


class Taps:
    """The tables and extremes of some tensors, in memory that the tap nodes write to as long as their session lives.

    With `extremes_only` nothing is counted, save where a value is not finite.
    """

    def __init__(self, count: int, *, extremes_only: bool = False) -> None:
        self._hot = np.zeros(BINS + _LANES, np.uint32)
        self._counts = _untouched(count, np.uint32)
        self.totals = _untouched(count, np.uint64)
        self.state = np.zeros(count, _TAP)
        self.state["extremes_only"] = extremes_only
        self.state["hot"] = self._hot.ctypes.data
        self.state["counts"] = self._counts.ctypes.data + self._counts.strides[0] * np.arange(count)
        self.state["totals"] = self.totals.ctypes.data + self.totals.strides[0] * np.arange(count)

    def begin(self) -> None:
        """Forget the extremes of the run before."""
        self.state["lowest"] = _INT32.max
        self.state["highest"] = _INT32.min

    def finite(self) -> bool:
        """Whether all values of this run were finite; a NaN sorts outside the finite values too."""
        return bool(self.state["lowest"].min() >= ~_LARGEST_FINITE and self.state["highest"].max() <= _LARGEST_FINITE)

    def spoilt(self, slot: int) -> bool:
        """Whether a tensor had a value in this run that was not finite."""
        state = self.state[slot]
        return bool(state["highest"] > _LARGEST_FINITE or state["lowest"] < ~_LARGEST_FINITE)

    def extremes(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The extremes of this run by slot, for `floats`; where a tensor had no elements, the smallest is EMPTY."""
        return self.state["lowest"].copy(), self.state["highest"].copy()

    def counts(self, slots: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The occupied bins of some tensors in all runs, in increasing order, and their counts; both int64 (B,)."""
        tables = [self._counts[slot] for slot in slots] + [
            self.totals[slot] for slot in slots if self.state["spills"][slot]
        ]
        occupied = tables[0] != 0
        for table in tables[1:]:
            occupied |= table != 0
        bins = np.flatnonzero(occupied)
        counts = np.zeros(bins.size, np.int64)
        for table in tables:
            counts += table[bins].astype(np.int64)
        return bins, counts


def _untouched(count: int, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Zeros (count, BINS) that take memory only where they are written to: numpy's own would come in huge pages."""
    memory = mmap.mmap(-1, max(count, 1) * BINS * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype).reshape(-1, BINS)[:count]


def floats(ordered: NDArray[np.int32]) -> NDArray[np.float32]:
    """The float32 values of finite extremes; −0 as +0."""
    bits = np.where(ordered < 0, ordered ^ _MAGNITUDE, ordered).astype(np.int32)
    return np.asarray(bits.view(np.float32) + np.float32(0))


class TapLibrary:
    """The loaded library. Raises TapUnavailableError."""

    def __init__(self) -> None:
        if not LIBRARY.exists():
            raise TapUnavailableError("it was not compiled when quantfleet was installed")
        try:
            self._library = ctypes.CDLL(str(LIBRARY))
        except OSError as error:
            raise TapUnavailableError(f"it cannot be loaded: {error}") from error
        self._library.quantfleet_tap_open.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        self._library.quantfleet_tap_open.restype = ctypes.c_int64
        self._library.quantfleet_tap_close.argtypes = [ctypes.c_int64]
        self._library.quantfleet_tap_close.restype = None
        self._library.quantfleet_tap_source.restype = ctypes.c_char_p
        sources = b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.[ch]")))
        if self._library.quantfleet_tap_source().decode() != sha256(sources).hexdigest():
            raise TapUnavailableError("it was compiled from other sources; install quantfleet again")
        self._lock = threading.Lock()

    @contextmanager
    def opened(self, taps: Taps) -> Iterator[int]:
        """A handle of `taps`, with which sessions are made."""
        with self._lock:
            handle = int(self._library.quantfleet_tap_open(taps.state.ctypes.data, len(taps.state)))
        if handle < 0:
            raise TapUnavailableError("too many collectors are being made at once")
        try:
            yield handle
        finally:
            with self._lock:
                self._library.quantfleet_tap_close(handle)

    def options(self) -> Any:
        """The session options of a graph with taps in it."""
        ort = onnxruntime_library.load()
        found = reference_session.options(optimize=False)
        # Each tap runs right behind its producer, while the tensor is in the cache.
        found.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        try:
            found.register_custom_ops_library(str(LIBRARY))
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise TapUnavailableError(f"onnxruntime refuses it: {error}") from error
        return found


def tap_node(value: str, handle: int, slot: int, channels: int, block: int) -> NodeProto:
    """A node that counts `value` in the taps of a handle; `channels` and `block` as in tap.c."""
    return helper.make_node(
        "Tap",
        [value],
        [],
        name=f"quantfleet.tap.{slot}",
        domain=DOMAIN,
        collector=handle,
        slot=slot,
        channels=channels,
        block=block,
    )


@functools.cache
def load() -> TapLibrary:
    """The library, after it has counted some tensors right. Raises TapUnavailableError.

    It is tried in a forked process, because what is wrong between two binaries ends in a crash.
    """
    library = TapLibrary()
    reference_session.engine_version()  # imported before, so that the fork need not do it
    child = os.fork()
    if not child:
        faulthandler.disable()  # the parent says how it ended
        try:
            os._exit(0 if _counts_right(library) else 1)
        except BaseException:  # whatever it is: this process must not return into the caller's code
            os._exit(2)
    until = time.monotonic() + _TEST_SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise TapUnavailableError("its self-test hung")
        time.sleep(0.001)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise TapUnavailableError(
            f"its self-test failed ({code}) with onnxruntime {reference_session.engine_version()}"
        )
    return library


def _counts_right(library: TapLibrary) -> bool:
    """Whether two tensors, one of them blocked and padded, have the counts and extremes that numpy finds.

    Each is tapped twice, the second time for its extremes only.
    """
    generator = np.random.default_rng(0)
    flat = generator.normal(size=1001).astype(np.float32)
    flat[generator.random(1001) < 0.3] = 0
    flat[:6] = [-0.0, 1e-45, -1e-45, 3e38, -3e38, 6]
    blocked = generator.normal(size=(2, 16, 5, 7)).astype(np.float32)
    feeds = {"flat": flat, "blocked": blocked}
    taps = Taps(4)
    taps.state["extremes_only"][2:] = True
    with library.opened(taps) as handle:
        nodes = [tap_node("flat", handle, slot, 0, 1) for slot in (0, 2)]
        nodes += [tap_node("blocked", handle, slot, 11, 8) for slot in (1, 3)]
        graph = helper.make_graph(
            nodes,
            "self-test",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name, values in feeds.items()],
            [helper.make_tensor_value_info("done", TensorProto.FLOAT, [1])],
            [numpy_helper.from_array(np.zeros(1, np.float32), "done")],
        )
        imports = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        try:
            session = reference_session.session(model, library.options())
            taps.begin()
            reference_session.run(session, ["done"], feeds)
        except (QuantfleetError, TapUnavailableError):
            return False
    lanes = blocked.reshape(2, 2, 5, 7, 8)
    real = np.concatenate((lanes[:, 0].ravel(), lanes[:, 1, :, :, :3].ravel()))
    lowest, highest = (floats(extremes) for extremes in taps.extremes())
    return all(
        np.array_equal(taps.counts([slot]), np.unique(bin_of(values[: 0 if slot >= 2 else None]), return_counts=True))
        and (lowest[slot], highest[slot]) == (values.min(), values.max())
        for slot, values in enumerate((flat, real, flat, real))
    )
