"""What quantfleet knows, without I/O: numpy and the standard library only."""
