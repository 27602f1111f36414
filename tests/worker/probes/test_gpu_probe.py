"""What the probe makes of NVML's words. There is no NVIDIA driver where tests run, which is one of the cases."""

import re
from pathlib import Path

import pynvml
import pytest

from quantfleet_worker.probes import nvml
from quantfleet_worker.probes.gpu import Gpus, cores_of, cuda_version, find_gpus

ROOM = Path(nvml.__file__).parent


def test_a_machine_without_an_nvidia_driver_has_no_gpus_and_no_warning() -> None:
    assert find_gpus((0, 1)) == Gpus((), ())
    assert nvml.opened() == nvml.Nvml(None, "")


def test_a_driver_that_answers_with_an_error_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    monkeypatch.setattr(pynvml, "nvmlInit", mismatch)
    found = find_gpus((0, 1))
    assert found.gpus == ()
    assert [text.partition(":")[0] for text in found.warnings] == ["the NVIDIA driver does not answer"]
    assert "mismatch" in found.warnings[0].lower()


@pytest.mark.parametrize("code", ["NVML_ERROR_NO_PERMISSION", "NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_GPU_IS_LOST"])
def test_what_nvml_will_not_say_is_none(code: str) -> None:
    def refuse() -> int:
        raise pynvml.NVMLError(getattr(pynvml, code))

    assert nvml.told(pynvml, refuse) is None
    assert nvml.told(pynvml, lambda: 7) == 7


@pytest.mark.parametrize(
    ("mask", "usable", "expected"),
    [
        ((0b1100,), range(8), (2, 3)),
        ((0, 0b11), range(128), (64, 65)),
        ((0b1111,), (1, 2, 90), (1, 2)),
        ((0b1,), (4, 5), (4, 5)),
        ((), (0, 1), (0, 1)),
    ],
)
def test_a_gpus_cores_are_the_usable_ones_near_it_or_all_of_them(
    mask: tuple[int, ...], usable: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert cores_of(mask, usable) == expected


def test_the_drivers_cuda_version_is_read_as_people_write_it() -> None:
    assert [cuda_version(number) for number in (12040, 13000, 11080)] == ["12.4", "13.0", "11.8"]


def test_every_name_of_nvml_that_is_used_exists() -> None:
    used = {
        name
        for path in ROOM.glob("*.py")
        for name in re.findall(r"module\.((?:nvml|NVML)\w+)", path.read_text())
    }  # fmt: skip
    assert len(used) > 20
    assert {name for name in used if not hasattr(pynvml, name)} == set()
