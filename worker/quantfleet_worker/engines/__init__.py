"""Engines: runtimes that execute a model on a device. One file an engine, one entry point, one contract suite."""
