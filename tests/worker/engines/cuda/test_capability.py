import pytest

from quantfleet_worker.engines.cuda.capability import fast_fp16, fast_int8, of_isa


@pytest.mark.parametrize(
    ("isa", "expected"),
    [(("sm_75",), (7, 5)), (("sm_90",), (9, 0)), (("sm_120",), (12, 0)), (("avx2", "fma"), None), ((), None)],
)
def test_a_devices_isa_tells_its_compute_capability(isa: tuple[str, ...], expected: tuple[int, int] | None) -> None:
    assert of_isa(isa) == expected


@pytest.mark.parametrize(
    ("capability", "fp16", "int8"),
    [
        ((5, 2), False, False),
        ((5, 3), True, False),
        ((6, 0), True, False),
        ((6, 1), False, True),
        ((6, 2), True, False),
        ((7, 0), True, True),
        ((7, 5), True, True),
        ((12, 0), True, True),
    ],
)
def test_which_gpus_are_fast_in_what(capability: tuple[int, int], fp16: bool, int8: bool) -> None:
    assert (fast_fp16(capability), fast_int8(capability)) == (fp16, int8)
