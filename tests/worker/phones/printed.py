"""What `benchmark_bin` prints, written from the format strings of Paddle-Lite 2.13's own source.

lite/api/tools/benchmark/benchmark.cc, `Run`; of the log on standard error lite/core/device_info.cc, `RequestPower...`
and lite/model_parser/model_parser.cc, `LoadModelFbsFromFile`.
"""

from collections.abc import Sequence

ANDROID = """
======= Device Info =======
Brand: Xiaomi
Device: cepheus
Model: MI 9
Android Version: 10
Android API Level: 29
"""
TRUNCATED = (
    "[I  7/14 12:31:52.108 ...lite/core/device_info.cc:1107 RequestPowerHighMode] "
    "Request thread num: 8, exceed the big cores size: 4, truncate thread num to 4\n"
)
MISMATCH = (
    "[W  7/14 12:31:52.  3 .../model_parser/model_parser.cc:820 LoadModelFbsFromFile] \n"
    "warning: the version of opt that transformed this model is not consistent with current Paddle-Lite version.\n"
    "      version of opt:v2.13-rc\n      version of current Paddle-Lite:v2.12\n"
)
USAGE = "benchmark_bin: \nNote: \n  If load the optimized model, set --optimized_model_file. \n"


def report(
    *,
    figures: tuple[float, float, float, float, float] = (21.5, 31.1875, 29.204, 30.998, 29.611),
    shapes: Sequence[Sequence[int]] = ((1, 1000),),
    head: str = ANDROID,
    version: str = "v2.13-rc",
    threads: int = 1,
    memory: tuple[float, float] | None = None,
) -> str:
    """`figures` are init, first, min, max and avg in milliseconds; `memory` init and peak in MB."""
    lines = [f"output tensor num: {len(shapes)}"]
    for place, shape in enumerate(shapes):
        lines += [
            f"--- output tensor {place} ---",
            "output shape(NCHW): " + "".join(f"{size} " for size in shape),
            f"output tensor {place} elem num: 1000",
            f"output tensor {place} mean value: 0.001",
            f"output tensor {place} standard deviation: 0.00219829",
            "",
        ]
    init, first, low, high, mean = (f"{value:<12.3f}" for value in figures)
    memory_lines = ""
    if memory:
        memory_lines = "\nMemory Usage(unit: MB):\ninit  = {:<12.3f}\npeak  = {:<12.3f}\n".format(*memory)
    return (
        f"{head}\n======= Model Info =======\noptimized_model_file: /data/local/tmp/model.nb\n"
        f"input_data_path: All 1.f\ninput_shape: 1,3,224,224\n"
        + "\n".join(lines)
        + f"\n======= Runtime Info =======\nbenchmark_bin version: {version}\nthreads: {threads}\npower_mode: 0\n"
        "warmup: 10\nrepeats: 100\nresult_path: \n\n======= Backend Info =======\nbackend: arm\ncpu precision: fp32\n"
        "\n======= Perf Info =======\nTime(unit: ms):\n"
        f"init  = {init}\nfirst = {first}\nmin   = {low}\nmax   = {high}\navg   = {mean}\n{memory_lines}\n"
    )
