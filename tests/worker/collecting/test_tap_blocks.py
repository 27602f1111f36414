"""The tap and numpy agree on what is padding, for blocks of every CPU: those of this one are only one size."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quantfleet_domain.calibration.statistic import bin_of
from quantfleet_worker.collecting import tap_library
from quantfleet_worker.collecting.tap_library import Taps, tap_node
from quantfleet_worker.models import reference_session
from quantfleet_worker.models.blocked_graph import unblocked


@settings(deadline=None, max_examples=60)
@given(
    block=st.sampled_from([4, 8, 16, 32]),
    channels=st.integers(1, 70),
    batch=st.integers(1, 3),
    spatial=st.lists(st.integers(1, 40), min_size=1, max_size=3).filter(lambda sides: np.prod(sides) < 2000),
    seed=st.integers(0, 9),
)
def test_only_the_real_channels_of_a_blocked_tensor_are_counted(
    block: int, channels: int, batch: int, spatial: list[int], seed: int
) -> None:
    padded = -(-channels // block) * block
    values = np.random.default_rng(seed).standard_normal((batch, padded, *spatial)).astype(np.float32)
    library, taps = tap_library.load(), Taps(1)
    with library.opened(taps) as handle:
        graph = helper.make_graph(
            [tap_node("x", handle, 0, channels, block)],
            "one tap",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
            [helper.make_tensor_value_info("done", TensorProto.FLOAT, [1])],
            [numpy_helper.from_array(np.zeros(1, np.float32), "done")],
        )
        imports = [helper.make_opsetid("", 13), helper.make_opsetid(tap_library.DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        session = reference_session.session(model, library.options())
        taps.begin()
        reference_session.run(session, ["done"], {"x": values})
    real = unblocked(values, channels, block)
    bins, counts = np.unique(bin_of(real), return_counts=True)
    found = taps.counts([0])
    assert (found[0].tolist(), found[1].tolist()) == (bins.tolist(), counts.tolist())
    lowest, highest = (tap_library.floats(extremes)[0] for extremes in taps.extremes())
    assert (lowest, highest) == (real.min(), real.max())
