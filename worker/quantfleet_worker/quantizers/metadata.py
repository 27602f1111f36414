"""The metadata keys of the INT8 files that our quantizers write. Not for their content."""

FORM_KEY = "quantfleet.form"
"""The form of the scales, such as `u8s8`."""
SCALES_KEY = "quantfleet.scales"
"""The SHA-256 of the scale table."""
FLOAT_KEY = "quantfleet.float"
"""Weighted nodes that the quantizer left in float: `name: reason`, a line each."""
