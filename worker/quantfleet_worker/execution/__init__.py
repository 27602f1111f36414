"""Execution: Ray actors pinned to hardware, each supervising one child process per engine run."""
