"""Phones and boards: devices of the host they hang on, reached by a command line client, measured by their own tools."""
