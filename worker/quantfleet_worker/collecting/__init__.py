"""Collectors: they run samples through the reference graph and count its activations. Not for choosing scales."""
