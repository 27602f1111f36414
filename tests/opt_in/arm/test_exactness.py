"""What calibration derives from given activations is the same on ARM to the byte, and so are the tap's counts."""

from pathlib import Path

import pytest
from tests.opt_in.arm import networks
from tests.opt_in.arm.arm_root import CORTEX_A72, EVERYTHING, ArmRoot, Processor
from tests.opt_in.arm.conftest import Figure, Program

pytestmark = pytest.mark.timeout(1800)

BOTH = pytest.mark.parametrize("processor", [CORTEX_A72, EVERYTHING], ids=lambda item: item.model)
PYTEST = ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=1500", "--rootdir=/quantfleet")


@pytest.fixture(scope="module")
def activations(exchange: Path) -> Path:
    networks.write(exchange / "given")
    return exchange / "given"


def passed(output: str) -> int:
    """How many tests pytest says have passed; none may have done anything else."""
    last = output.strip().splitlines()[-1]
    count, word, *rest = last.split()
    assert (word, rest[0]) == ("passed", "in"), output[-2000:]
    return int(count)


@BOTH
def test_statistics_thresholds_tables_and_corrections_are_the_same_bytes_as_here(
    activations: Path, here: Program, there: Program, figure: Figure, processor: Processor
) -> None:
    expected = here("law.py", "given")
    found = there("law.py", "given", on=processor)
    assert {name for name in expected if name.startswith(("table ", "threshold "))}
    assert {name for name in expected if found[name] != expected[name]} == set()
    assert found.keys() == expected.keys()
    figure(f"{processor.model}: {len(found)} digests of what calibration derives are the same as here")


def test_the_property_tests_of_calibration_pass_there(arm: ArmRoot, figure: Figure) -> None:
    output = arm.run(*PYTEST, "/quantfleet/tests/domain/calibration", on=EVERYTHING, timeout_s=1700)
    figure(f"{EVERYTHING.model}: {passed(output)} tests of tests/domain/calibration pass")


@BOTH
def test_the_tap_compiled_there_counts_as_numpy_does(arm: ArmRoot, figure: Figure, processor: Processor) -> None:
    names = ("test_collectors.py", "test_tap_library.py", "test_tap_blocks.py", "test_parts.py")
    tests = [f"/quantfleet/tests/worker/collecting/{name}" for name in names]
    output = arm.run(*PYTEST, *tests, on=processor, timeout_s=1700)
    figure(f"{processor.model}: {passed(output)} tests of tests/worker/collecting pass")
