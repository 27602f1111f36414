"""Probes: what this host really is, found by looking and by timing, never by asking."""
