"""The worker on ARM: what its probe finds, and a job from the model to the scale table. No figure of it is a time."""

import json
from pathlib import Path

import pytest
from tests.opt_in.arm.arm_root import A64FX, CORTEX_A72, EVERYTHING, NEOVERSE_N1, ArmRoot, Processor
from tests.system.conftest import write_job, write_model, write_samples

pytestmark = pytest.mark.timeout(1800)


@pytest.mark.parametrize(
    ("processor", "isa", "numerics", "model"),
    [
        (CORTEX_A72, ["asimd"], "aarch64/asimd", "ARM Cortex-A72"),
        (NEOVERSE_N1, ["asimd", "asimddp", "fphp"], "aarch64/asimd", "ARM Neoverse-N1"),
        (A64FX, ["asimd", "fphp", "sve"], "aarch64/sve512", "Fujitsu part 0x001"),
        (
            EVERYTHING,
            ["asimd", "asimddp", "bf16", "fphp", "i8mm", "sme", "sve", "sve2"],
            "aarch64/sme+sve512",
            "ARM Neoverse-V2",
        ),
    ],
    ids=lambda item: item.model if isinstance(item, Processor) else "",
)
def test_the_probe_names_processor_instruction_sets_and_numerics_class(
    arm: ArmRoot, processor: Processor, isa: list[str], numerics: str, model: str
) -> None:
    (device,) = json.loads(arm.run("python3", "-m", "quantfleet", "worker", "probe", "--json", on=processor))
    hardware = device["hardware"]
    assert (hardware["architecture"], hardware["isa"], hardware["model_name"]) == ("aarch64", isa, model)
    assert (device["numerics_isa"], device["verified"]) == (numerics, True)
    assert hardware["vnni"], hardware["vnni_missing"]
    available = {engine["name"]: engine["available"] for engine in device["engines"]}
    assert available["onnxruntime-cpu"]
    assert not available["openvino-cpu"]  # it is not installed there


def test_a_job_done_there_has_one_table_however_it_is_sharded(arm: ArmRoot, exchange: Path) -> None:
    folder = exchange / "job"
    folder.mkdir()
    write_model(folder / "net.onnx")
    write_samples(folder / "samples", 8)
    int8 = "[{engines: [onnxruntime-cpu], precisions: [fp32, int8]}]"
    write_job(folder, "whole", shards=1, targets=int8)
    write_job(folder, "sharded", shards=3)
    reports = []
    for name in ("whole", "sharded"):
        run = ("python3", "-m", "quantfleet", "run", f"job/{name}.yaml", "--workers", "1", "--out", f"job/{name}")
        arm.run(*run, on=NEOVERSE_N1, timeout_s=1200)
        reports.append(json.loads((folder / name / "report.json").read_bytes()))
    whole, sharded = ((folder / name / "net" / "scales.json").read_bytes() for name in ("whole", "sharded"))
    assert whole == sharded
    for report in reports:
        assert report["job"]["state"] == "succeeded"
        assert report["results"] == [], "a time was taken under emulation"
        assert report["calibration"]["numerics_class"]["isa"] == "aarch64/asimd"
        assert report["calibration"]["collectors"] == ["native-tap"]
    assert (folder / "whole" / "net" / "onnx-u8s8" / "model.onnx").exists()
