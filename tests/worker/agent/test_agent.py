"""An agent against a real coordinator: it renews its certificate, and stops where going on would be wrong."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import CpuFacts, DeviceFacts
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.identity_files import load_credentials, save_credentials
from quantfleet_worker.agent.agent import Agent, slot_names
from quantfleet_worker.execution.ray_host import RayHost

BOUND_S = 20.0
CPU = CpuFacts("Test CPU", "Test", "x86_64", ("avx2",), 1, 1, 1, 2**30, None, None, None, "")
# No engine: the agent holds no tasks here, so its Ray is never started.
DEVICES = (DeviceFacts("cpu:0", "cpu", CPU, (), (0,), (0,), "machine", "x86_64/avx2", True),)


async def agent_of(fleet: LocalFleet, state: Path, name: str) -> Agent:
    save_credentials(state / "credentials", await fleet.enrol(name))
    return Agent(state, DEVICES, RayHost(slot_names(DEVICES)))


async def states(fleet: LocalFleet) -> dict[str, str]:
    return {n.name: n.state for n in (await fleet.control.ListNodes(control_pb2.ListNodesRequest())).nodes}


async def until_live(fleet: LocalFleet, name: str) -> None:
    async with asyncio.timeout(BOUND_S):
        while (await states(fleet))[name] != "live":
            await asyncio.sleep(0.05)


def test_a_certificate_is_renewed_with_a_new_key_and_the_node_stays_live(tmp_path: Path) -> None:
    async def main() -> None:
        # Certificates are backdated by a minute, so one that lives 20 s more is due for renewal at once.
        async with LocalFleet(tmp_path, heartbeat_s=0.1, node_lifetime_s=20.0) as fleet:
            agent = await agent_of(fleet, tmp_path / "node", "n1")
            first = load_credentials(tmp_path / "node" / "credentials")
            running = asyncio.create_task(agent.run())
            async with asyncio.timeout(BOUND_S):
                while (
                    now := load_credentials(tmp_path / "node" / "credentials")
                ).certificate_pem == first.certificate_pem:
                    await asyncio.sleep(0.05)
            assert now.key_pem != first.key_pem
            await until_live(fleet, "n1")
            assert not running.done()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_a_revoked_agent_ends_with_the_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path, heartbeat_s=0.1) as fleet:
            agent = await agent_of(fleet, tmp_path / "node", "n1")
            running = asyncio.create_task(agent.run())
            await until_live(fleet, "n1")
            await fleet.control.RevokeNode(control_pb2.RevokeNodeRequest(node="n1"))
            with pytest.raises(QuantfleetError) as ended:
                await asyncio.wait_for(running, BOUND_S)
            assert ended.value.code is ErrorCode.CERTIFICATE_REVOKED

    asyncio.run(main())


def test_an_agent_whose_identity_runs_elsewhere_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path, heartbeat_s=0.1) as fleet:
            first = await agent_of(fleet, tmp_path / "one", "n1")
            running = asyncio.create_task(first.run())
            await until_live(fleet, "n1")
            copied = load_credentials(tmp_path / "one" / "credentials")
            save_credentials(tmp_path / "two" / "credentials", copied)
            second = asyncio.create_task(Agent(tmp_path / "two", DEVICES, RayHost(slot_names(DEVICES))).run())
            with pytest.raises(QuantfleetError) as ended:
                await asyncio.wait_for(running, BOUND_S)
            assert ended.value.code is ErrorCode.INCARNATION_STALE
            second.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await second

    asyncio.run(main())


def test_an_agent_outlives_a_restart_of_the_coordinator(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path, heartbeat_s=0.1) as fleet:
            agent = await agent_of(fleet, tmp_path / "node", "n1")
            running = asyncio.create_task(agent.run())
            await until_live(fleet, "n1")
            await fleet.restart()
            await until_live(fleet, "n1")
            assert not running.done()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(main())
