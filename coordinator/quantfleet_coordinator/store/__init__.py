"""The durable store: what was acknowledged survives any crash. One contract, several implementations."""
