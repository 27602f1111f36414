"""The precisions in which a model is run. Not for which engine or device has which."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8+fp16", "int8+fp16+pinned", "int16")
"""In the order of the field's tables. `int8+fp16` computes in FP16 what does not run in INT8, `+pinned` copies from and
to page-locked memory; `int16` are weights of 16 bits, whose ranges need no calibration."""


def is_int8(precision: str) -> bool:
    """Whether products are computed in INT8."""
    return precision.startswith("int8")


def is_quantized(precision: str) -> bool:
    """Whether the precision is that of a quantized model."""
    return precision.startswith("int")
