"""The wire contract of quantfleet: `v1/*.proto` and the Python code generated from them, nothing else."""
