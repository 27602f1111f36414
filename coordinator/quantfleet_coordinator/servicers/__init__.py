"""The gRPC services: each method decodes, makes one call of the coordinator, and encodes."""
