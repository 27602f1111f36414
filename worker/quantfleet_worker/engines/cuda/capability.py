"""What a GPU's compute capability says about precisions. Not whether an engine makes use of it."""

import re

Capability = tuple[int, int]
_ISA = re.compile(r"sm_(\d+)(\d)")


def of_isa(isa: tuple[str, ...]) -> Capability | None:
    """The compute capability of a device's isa: (7, 5) of `("sm_75",)`, (12, 0) of `("sm_120",)`; None for a CPU's."""
    found = [match for match in map(_ISA.fullmatch, isa) if match]
    return (int(found[0][1]), int(found[0][2])) if found else None


def fast_fp16(capability: Capability) -> bool:
    """Whether FP16 arithmetic is faster than FP32: 5.3, 6.0, 6.2 and from 7.0 on.

    NVIDIA, TensorRT support matrix, "Hardware and Precision" (8.4 to 8.6 are the last that list all of them).
    """
    return capability in ((5, 3), (6, 0), (6, 2)) or capability >= (7, 0)


def fast_int8(capability: Capability) -> bool:
    """Whether there are INT8 dot products: 6.1 and from 7.0 on; on Tensor Cores from 7.2 on. The same source."""
    return capability == (6, 1) or capability >= (7, 0)
