"""Small steps that the scenarios of a whole coordinator are made of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.coordinator.jobs.scripted_node import ScriptedNode, device

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_protos.v1 import control_pb2

Scenario = Callable[[LocalFleet], Awaitable[None]]
Play = Callable[..., None]
"""Runs a scenario against a fresh coordinator; keyword arguments are those of `LocalFleet`."""


async def join(fleet: LocalFleet, name: str, devices: Sequence[DeviceFacts] = (device(),)) -> ScriptedNode:
    """A node that has joined and registered."""
    node = ScriptedNode(fleet.channel(await fleet.enrol(name)), devices)
    await node.register()
    return node


@asynccontextmanager
async def working(*nodes: ScriptedNode) -> AsyncIterator[None]:
    """Let nodes work meanwhile."""
    tasks = [asyncio.create_task(node.work()) for node in nodes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


async def ended(fleet: LocalFleet, job: str, bound_s: float = 15.0) -> control_pb2.GetJobResponse:
    """The job once it is not running any more."""
    return await until(fleet, job, lambda found: found.job.state != "running", bound_s)


async def until(
    fleet: LocalFleet, job: str, holds: Callable[[control_pb2.GetJobResponse], bool], bound_s: float = 15.0
) -> control_pb2.GetJobResponse:
    """The job once a condition holds."""
    async with asyncio.timeout(bound_s):
        while True:
            found = await fleet.control.GetJob(control_pb2.GetJobRequest(job_id=job))
            if holds(found):
                return found
            await asyncio.sleep(0.02)


async def state(fleet: LocalFleet, job: str, task: str) -> control_pb2.TaskStatus:
    """One task as users see it."""
    found = await fleet.control.GetJob(control_pb2.GetJobRequest(job_id=job))
    return next(status for status in found.tasks if status.task_id == task)


async def refused(call: Awaitable[Any], code: ErrorCode) -> QuantfleetError:
    """The call fails with this code."""
    with pytest.raises(QuantfleetError) as caught:
        await call
    assert caught.value.code is code, caught.value
    return caught.value
