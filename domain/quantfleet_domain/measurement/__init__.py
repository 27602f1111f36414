"""Latency samples, their summary, and when a figure may be trusted."""
