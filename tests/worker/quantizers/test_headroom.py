"""The largest codes of unsigned activations that do not saturate in 16 bits."""

import numpy as np
import pytest

from quantfleet_worker.quantizers.headroom import CodeLimits, code_limit

INT16 = 32767


def int8_weight(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    generator = np.random.default_rng(5)
    return generator.integers(-127, 128, shape).astype(np.float32)


def largest_product(weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]], code: float) -> float:
    """Of a 1×1 convolution: the largest sum of two neighbouring products with codes up to `code`."""
    rows = weight.reshape(weight.shape[0], -1, 2)
    one_sided = [np.maximum(sign * rows, 0).sum(axis=2).max() for sign in (1, -1)]
    return float(code * max(one_sided))


def test_products_at_the_limit_fit_in_16_bits_and_hardly_more_would() -> None:
    weight = int8_weight(8, 16, 1, 1)
    limit = code_limit(weight, 0, np.ones(8, np.float32), 1)
    assert largest_product(weight, limit) <= INT16 < largest_product(weight, limit * 1.02)


def test_weights_whose_pairs_are_small_leave_all_codes() -> None:
    weight = np.full((4, 4, 1, 1), 64, np.float32)
    assert code_limit(weight, 0, np.ones(4, np.float32), 1) < 255
    assert code_limit(weight - 1, 0, np.ones(4, np.float32), 1) == 255


def test_the_scales_are_those_of_the_axis() -> None:
    weight = int8_weight(6, 4)
    scales = np.array([1, 2, 4, 8], np.float32)
    limit = code_limit(weight * scales, 1, scales, 1)
    assert limit == pytest.approx(code_limit(weight, 1, np.ones(4, np.float32), 1))


def test_a_depthwise_convolution_takes_all_codes() -> None:
    weight = np.full((4, 1, 3, 3), 127, np.float32)
    assert code_limit(weight, 0, np.ones(4, np.float32), 4) == 255


def test_a_tensor_has_the_least_limit_of_its_readers_and_of_what_shares_its_scale() -> None:
    limits = CodeLimits([("a", 200.0), ("a", 150.0), ("d", 130.0)], [("a", "b"), ("b", "c", "d"), ("e", "f")])
    assert [limits[name] for name in "abcdef"] == [130, 130, 130, 130, 255, 255]
    assert (limits.widening("a"), limits.widening("e"), limits.widening("unknown")) == (255 / 130, 1, 1)
