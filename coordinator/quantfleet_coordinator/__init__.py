"""The coordinator: plans jobs, leases tasks, merges statistics, keeps what was acknowledged."""
