import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto
from onnxruntime.quantization.quant_utils import compute_data_quant_params, compute_scale_zp, get_qmin_qmax_for_qType

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales

FLOAT32_MAX = float(np.finfo(np.float32).max)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
ORT = {
    ActivationForm.U8_AFFINE: (TensorProto.UINT8, False),
    ActivationForm.S8_SYMMETRIC: (TensorProto.INT8, True),
}


@pytest.mark.parametrize("form", ActivationForm)
@given(ends=st.tuples(finite, finite).map(sorted))
@example(ends=[0.0, 0.0])
@example(ends=[3.0, 3.0])
@example(ends=[-3.0, -3.0])
@example(ends=[-FLOAT32_MAX, FLOAT32_MAX])
@example(ends=[0.0, 1e-45])
@example(ends=[-1e-45, 2.0])
@example(ends=[-127.5, 127.5])
def test_activation_parameters_are_onnx_runtimes_to_the_bit(form, ends):
    kind, symmetric = ORT[form]
    low, high = np.array(ends[0], np.float32), np.array(ends[1], np.float32)
    zero_point, scale = compute_scale_zp(low, high, *get_qmin_qmax_for_qType(kind, symmetric=symmetric), symmetric)
    found = activation_parameters(form, *ends)
    assert isinstance(found.scale, np.float32)
    assert found.zero_point.dtype == zero_point.dtype
    assert (found.scale.tobytes(), found.zero_point) == (scale.astype(np.float32).tobytes(), zero_point)


@given(channels=st.lists(st.lists(finite, min_size=1, max_size=5), max_size=4))
@example(channels=[[0.0], [1e-45], [FLOAT32_MAX]])
def test_weight_scales_are_onnx_runtimes_to_the_bit(channels):
    found = weight_scales([max(map(abs, channel)) for channel in channels])
    assert found.dtype == np.float32
    assert found.shape == (len(channels),)
    for channel, scale in zip(channels, found, strict=True):
        data = np.array(channel, np.float32)
        zero_point, expected = compute_data_quant_params(data, TensorProto.INT8, True, False)
        assert zero_point == 0
        assert scale.tobytes() == expected.astype(np.float32).tobytes()


def test_a_range_without_negative_values_has_zero_point_zero():
    assert activation_parameters(ActivationForm.U8_AFFINE, 2.0, 6.0).zero_point == 0


@pytest.mark.parametrize("form", ActivationForm)
@pytest.mark.parametrize("constant", [3.0, -3.0, 0.0])
def test_a_constant_survives_quantization(form, constant):
    found = activation_parameters(form, constant, constant)
    limits = np.iinfo(found.zero_point.dtype)
    integer = np.clip(np.round(constant / found.scale) + found.zero_point, limits.min, limits.max)
    assert (integer - found.zero_point) * found.scale == pytest.approx(constant, rel=1e-6)
