"""Mergeable activation statistics, calibrators and the scale table."""
