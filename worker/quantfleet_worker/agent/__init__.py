"""The agent: dials the coordinator, holds leases, has tasks run and delivers what comes of them."""
