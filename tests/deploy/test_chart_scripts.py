"""The scripts that the chart's pods run, against a real coordinator: the probe, and joining before a worker starts."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.deploy.chart import CHART

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.identity_files import load_credentials

JOIN, HEALTHY = CHART / "files/join.py", CHART / "files/healthy.py"
NODE = "quantfleet-gpu-0"
LIMIT_S = 60


def _with_fleet(directory: Path, test: Callable[[LocalFleet], Awaitable[None]], **settings: float) -> None:
    async def run() -> None:
        async with LocalFleet(directory, **settings) as fleet:
            await test(fleet)

    asyncio.run(run())


async def _ran(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(str(word) for word in words)]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=LIMIT_S)


async def _put_token(fleet: LocalFleet, tokens: Path) -> None:
    request = control_pb2.CreateTokenRequest(purpose="node", name=NODE, ttl_s=60)
    _write(tokens, (await fleet.control.CreateToken(request)).token)


def _write(tokens: Path, token: str) -> None:
    tokens.mkdir(exist_ok=True)
    # The kubelet puts a file in place as a whole, too.
    (tokens / ".new").write_text(f"{token}\n")
    (tokens / ".new").rename(tokens / NODE)


async def _waits_for_a_token(*words: object) -> tuple[asyncio.subprocess.Process, str]:
    """The script, once it has said that it waits, and all it said until then."""
    command = [str(word) for word in words]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(LIMIT_S):
        while "waiting for a token" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line.decode()
    return process, said


def test_a_coordinator_that_serves_is_healthy_and_one_that_was_stopped_is_not(tmp_path: Path) -> None:
    async def test(fleet: LocalFleet) -> None:
        words = (HEALTHY, tmp_path / "state", fleet.coordinator.enrolment_address)
        done = await _ran(*words)
        assert done.returncode == 0, done.stderr
        await fleet.coordinator.stop(grace_s=0)
        done = await _ran(*words)
        assert done.returncode == 1
        assert "not healthy" in done.stderr
        assert "Traceback" not in done.stderr
        await fleet.restart()

    _with_fleet(tmp_path, test)


def test_who_is_not_this_fleets_coordinator_is_not_healthy(tmp_path: Path) -> None:
    async def test(fleet: LocalFleet) -> None:
        async with LocalFleet(tmp_path / "other"):
            done = await _ran(HEALTHY, tmp_path / "other" / "state", fleet.coordinator.enrolment_address)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr

    _with_fleet(tmp_path, test)


def test_a_pod_joins_once_with_its_token_and_needs_none_after_that(tmp_path: Path) -> None:
    state, tokens = tmp_path / "worker", tmp_path / "tokens"

    async def test(fleet: LocalFleet) -> None:
        await _put_token(fleet, tokens)
        done = await _ran(JOIN, NODE, state, tokens)
        assert done.returncode == 0, done.stderr
        joined = load_credentials(state / "credentials")
        assert joined.address == fleet.coordinator.address
        (tokens / NODE).unlink()
        done = await _ran(JOIN, NODE, state, tokens)
        assert done.returncode == 0, done.stderr
        assert load_credentials(state / "credentials") == joined

    _with_fleet(tmp_path, test)


def test_a_pod_without_a_token_waits_for_it_and_says_how_it_is_made(tmp_path: Path) -> None:
    state, tokens = tmp_path / "worker", tmp_path / "tokens"

    async def test(fleet: LocalFleet) -> None:
        process, said = await _waits_for_a_token(JOIN, NODE, state, tokens)
        assert f"quantfleet token create --node {NODE}" in said
        await _put_token(fleet, tokens)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
        assert load_credentials(state / "credentials").address == fleet.coordinator.address

    _with_fleet(tmp_path, test)


def test_a_pod_whose_certificate_ends_before_its_worker_could_renew_it_joins_anew(tmp_path: Path) -> None:
    state, tokens = tmp_path / "worker", tmp_path / "tokens"

    async def test(fleet: LocalFleet) -> None:
        await _put_token(fleet, tokens)
        assert (await _ran(JOIN, NODE, state, tokens)).returncode == 0
        ended = load_credentials(state / "credentials")
        (tokens / NODE).unlink()
        process, said = await _waits_for_a_token(JOIN, NODE, state, tokens)
        assert "the certificate" in said
        await _put_token(fleet, tokens)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
        assert load_credentials(state / "credentials") != ended

    _with_fleet(tmp_path, test, node_lifetime_s=60)


def test_a_token_that_was_used_is_refused_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"

    async def test(fleet: LocalFleet) -> None:
        await _put_token(fleet, tokens)
        assert (await _ran(JOIN, NODE, tmp_path / "one", tokens)).returncode == 0
        done = await _ran(JOIN, NODE, tmp_path / "two", tokens)
        assert done.returncode not in (0, 1)
        assert "token" in done.stderr
        assert "Traceback" not in done.stderr

    _with_fleet(tmp_path, test)
