"""Reads what Paddle's configuration says of itself. Pure: not for configuring it."""

_SHOWN = {
    "gpu_device_id": "gpu_device_id",
    "mixed_precision_mode": "mixed_precision",
    "use_external_stream": "external_stream",
    "trt_compile_version": "tensorrt_built_with",
    "trt_runtime_version": "tensorrt",
    "tensorrt_precision_mode": "precision_mode",
    "tensorrt_workspace_size": "workspace_bytes",
    "tensorrt_max_batch_size": "max_batch_size",
    "tensorrt_min_subgraph_size": "min_subgraph_size",
    "tensorrt_use_static_engine": "use_static",
    "tensorrt_use_calib_mode": "use_calib_mode",
    "tensorrt_enable_dynamic_shape": "dynamic_shape_set",
    "tensorrt_tuned_dynamic_shape": "dynamic_shape_tuned",
    "ir_optim": "ir_optim",
    "memory_optim": "memory_optim",
}


def read_summary(text: str) -> dict[str, str]:
    """The settings of `Config.summary()`, a table drawn with `|`, `+` and `-`, by the names that reports use."""
    rows = (line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|"))
    values = {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    return {ours: values[theirs] for theirs, ours in _SHOWN.items() if theirs in values}
