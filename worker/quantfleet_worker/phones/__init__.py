"""Phones and boards: devices of the host they hang on, measured there by their own tools."""
