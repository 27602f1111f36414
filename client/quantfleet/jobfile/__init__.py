"""The job file: YAML on a user's disk to the job that the coordinator takes. Not for sending it."""
