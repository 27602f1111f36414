"""Facts about devices and engines, and the pools that select them."""
