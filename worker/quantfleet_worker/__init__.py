"""The worker: dials the coordinator, runs tasks on its hardware in supervised child processes."""
