"""Quantizers: from the one scale table to the file that a runtime executes in INT8."""
