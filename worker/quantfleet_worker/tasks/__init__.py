"""Tasks: what happens in the child process of one task, from its request to its result. Not for leases or placement."""

from quantfleet_worker.tasks.dispatching import dispatch

__all__ = ["dispatch"]
