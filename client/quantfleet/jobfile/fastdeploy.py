"""The configuration of FastDeploy's benchmark tool, `key: value` lines, as what it means here. Not for a job file.

Keys and values are those of FastDeploy's benchmark/cpp (README.md, option.h, config/). What a key asks for is done,
is refused, or is answered by a note; a key that FastDeploy itself does not read in such a case is passed over, as
`device_id` is for a CPU.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.jobs.spec import MODES
from quantfleet_wire.yaml_tree import Document, Value, nearest, parse

KEYS = (
    "device",
    "device_id",
    "cpu_thread_nums",
    "warmup",
    "repeat",
    "backend",
    "profile_mode",
    "include_h2d_d2h",
    "use_fp16",
    "collect_memory_info",
    "sampling_interval",
    "precision_compare",
    "xpu_l3_cache",
    "result_path",
    "enable_log_info",
)
DEVICES = ("cpu", "gpu", "xpu")
_KINDS = {"cpu": "cpu", "gpu": "cuda"}
_ENGINES = {
    ("cpu", "ort"): "onnxruntime-cpu",
    ("cpu", "paddle"): "paddle-cpu",
    ("cpu", "ov"): "openvino-cpu",
    ("cpu", "openvino"): "openvino-cpu",
    ("cpu", "lite"): "paddle-lite",
    ("gpu", "ort"): "onnxruntime-cuda",
    ("gpu", "paddle"): "paddle-gpu",
    ("gpu", "trt"): "tensorrt",
    ("gpu", "paddle_trt"): "paddle-tensorrt",
}
"""The engine that a backend on a device is, whether this version has it or not."""
_ANY = "default"
BACKENDS = (_ANY, *dict.fromkeys(backend for _, backend in _ENGINES))


@dataclass(frozen=True)
class FastDeployConfig:
    """What a configuration asks for; None, and no engines or `pool`, where it leaves it open.

    `fp16` is whether FP16 is measured beside FP32 and INT8. `notes` say what is done otherwise than there.
    """

    engines: tuple[str, ...] = ()
    pool: str = ""
    fp16: bool = False
    threads: tuple[int, ...] = ()
    warmup: int | None = None
    repeat: int | None = None
    mode: str | None = None
    memory: bool = False
    notes: tuple[str, ...] = ()

    def under(self, *, threads: tuple[int, ...], warmup: int | None, repeat: int | None) -> "FastDeployConfig":
        """The configuration under options, which come before it where they are given."""
        return replace(
            self,
            threads=threads or self.threads,
            warmup=self.warmup if warmup is None else warmup,
            repeat=self.repeat if repeat is None else repeat,
        )


def read(path: Path, chosen: tuple[str, ...] = ()) -> FastDeployConfig:
    """Read a configuration; `chosen` are engines that come before the one that its backend is.

    Raises QuantfleetError(JOB_INVALID), with line and column, for a key or value that is unknown and for what no engine
    of this version can do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        what = f"the FastDeploy configuration {path} cannot be read: {reason}"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "give a text file with lines `key: value`") from error
    keys = parse(text, Document(str(path)), "config").mapping(KEYS)
    device = keys["device"].choice("device", DEVICES) if "device" in keys else "cpu"
    engines = chosen or _engines(keys, device)
    _refuse(keys, device, engines)
    return FastDeployConfig(
        engines=engines,
        pool="cuda" if device == "gpu" else "",
        fp16=_is_on(keys, "use_fp16"),
        threads=(keys["cpu_thread_nums"].count(1),) if "cpu_thread_nums" in keys else (),
        warmup=keys["warmup"].count(0) if "warmup" in keys else None,
        repeat=keys["repeat"].count(1) if "repeat" in keys else None,
        mode=keys["profile_mode"].choice("profile mode", MODES) if "profile_mode" in keys else None,
        memory=_is_on(keys, "collect_memory_info"),
        notes=tuple(_notes(keys)),
    )


def _engines(keys: Mapping[str, Value], device: str) -> tuple[str, ...]:
    backend = keys["backend"].choice("backend", BACKENDS) if "backend" in keys else _ANY
    if backend == _ANY:
        return ()
    engine = _ENGINES.get((device, backend))
    if engine in ENGINES:
        return (engine,)
    wanted = f"engine {engine}, which this version lacks" if engine else "nothing that FastDeploy has"
    known = [name for (of, name), found in _ENGINES.items() if of == device and found in ENGINES]
    todo = f"{nearest(backend, [*known, _ANY])}; engines here are {', '.join(ENGINES)}"
    raise keys["backend"].error(f"backend {backend} on a {device} is {wanted}", todo)


def _refuse(keys: Mapping[str, Value], device: str, engines: tuple[str, ...]) -> None:
    kinds = sorted({offer.kind for offer in ENGINES.values()})
    if _KINDS.get(device) not in kinds:
        todo = f"the engines here run on {', '.join(kinds)}: write `device: cpu`"
        raise keys["device"].error(f"no engine of this version runs on a {device}", todo)
    named = [ENGINES[name] for name in engines if name in ENGINES]
    offers = named or [offer for offer in ENGINES.values() if offer.kind == _KINDS[device]]
    if _is_on(keys, "use_fp16") and not any("fp16" in offer.precisions for offer in offers):
        what = f"{', '.join(offer.name for offer in offers)} measure no fp16"
        raise keys["use_fp16"].error(what, "write `use_fp16: false`")
    if _is_on(keys, "precision_compare"):
        what = "results are not compared with those in a file"
        raise keys["precision_compare"].error(what, "write false, and give a job file `evaluate:` with labels")


def _notes(keys: Mapping[str, Value]) -> Iterator[str]:
    mode = keys["profile_mode"].text() if "profile_mode" in keys else MODES[0]
    if mode == MODES[0] and "include_h2d_d2h" in keys and not keys["include_h2d_d2h"].boolean():
        yield "include_h2d_d2h: false: a runtime latency here has the copies of inputs and outputs in it"
    if "result_path" in keys:
        yield f"result_path: {keys['result_path'].text()}: results are written to the directory that --out names"
    if _is_on(keys, "collect_memory_info") and "sampling_interval" in keys:
        yield "sampling_interval: the peak memory is the kernel's own figure, and nothing is sampled for it"
    if _is_on(keys, "enable_log_info"):
        yield "enable_log_info: true: what engines print is in the logs that --keep-state keeps"


def _is_on(keys: Mapping[str, Value], key: str) -> bool:
    return key in keys and keys[key].boolean()
