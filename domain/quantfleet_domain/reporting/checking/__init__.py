"""Checks that find figures of a report, ours or a published one, that contradict each other."""
