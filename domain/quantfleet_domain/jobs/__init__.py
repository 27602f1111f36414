"""What a job is, the graph of its tasks and the life of each task."""
