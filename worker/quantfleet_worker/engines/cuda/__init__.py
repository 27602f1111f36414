"""What engines on NVIDIA GPUs share: memory, transfers, capabilities, files kept between runs. Not an engine."""
