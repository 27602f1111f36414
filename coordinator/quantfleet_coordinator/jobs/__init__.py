"""Jobs at work: the state in memory, its durable record, leases, and the coordinator's own tasks."""
