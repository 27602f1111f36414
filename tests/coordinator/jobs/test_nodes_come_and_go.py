"""Nodes that are cordoned, drained and expelled, and who may do it."""

import asyncio
from dataclasses import replace

from tests.coordinator.jobs.fleet_play import Play, ended, join, refused, state, working
from tests.coordinator.jobs.scripted_node import ScriptedNode, device, job_spec, submit

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.hardware.facts import EngineFacts, VnniSelfTest
from quantfleet_protos.v1 import control_pb2
from quantfleet_protos.v1.control_pb2_grpc import ControlStub
from quantfleet_wire.identity import parse_peer
from quantfleet_wire.identity_files import make_csr, make_key


async def shown(fleet: LocalFleet) -> dict[str, str]:
    return {node.name: node.state for node in (await fleet.control.ListNodes(control_pb2.ListNodesRequest())).nodes}


def test_a_revoked_node_is_cut_off_at_once_and_its_task_goes_to_another(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        bad = await join(fleet, "bad")
        job = await submit(fleet, job_spec())
        (inspect,) = await bad.acquire()
        poll = asyncio.create_task(bad.acquire(25))
        await asyncio.sleep(0.1)
        assert (await fleet.control.RevokeNode(control_pb2.RevokeNodeRequest(node="bad"))).certificates == 1
        await refused(poll, ErrorCode.CERTIFICATE_REVOKED)
        await refused(bad.complete(inspect), ErrorCode.CERTIFICATE_REVOKED)
        assert await shown(fleet) == {"bad": "revoked"}
        uncordon = control_pb2.UncordonNodeRequest(node="bad")
        await refused(fleet.control.UncordonNode(uncordon), ErrorCode.CERTIFICATE_REVOKED)
        good = await join(fleet, "good")
        (again,) = await good.acquire()
        assert (again.task_id, again.epoch) == ("net/inspect", 2)
        await good.complete(again)
        await fleet.restart()
        assert await shown(fleet) == {"bad": "revoked", "good": "lost"}
        assert (await state(fleet, job, "net/inspect")).state == "succeeded"

    play(scenario)


def test_a_revoked_node_may_join_again(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        await join(fleet, "n1")
        await fleet.control.RevokeNode(control_pb2.RevokeNodeRequest(node="n1"))
        node = await join(fleet, "n1")
        await submit(fleet, job_spec())
        assert len(await node.acquire()) == 1

    play(scenario)


def test_a_node_cannot_renew_its_way_out_while_its_revocation_is_being_stored(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        peer = parse_peer((await fleet.enrol("n1")).certificate_pem)
        members = fleet.coordinator._members
        revoking = asyncio.create_task(members.revoke("user/admin", "node", "n1"))
        await asyncio.sleep(0)  # decided, and on its way to the disk
        await refused(members.renew(peer, make_csr(make_key(), "n1")), ErrorCode.CERTIFICATE_REVOKED)
        assert await revoking == 1

    play(scenario)


def test_what_a_node_says_of_an_engine_cannot_keep_a_task_from_being_given_up(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        engines = (EngineFacts("onnxruntime-cpu", "", (), False, "no\0such file"),)
        await join(fleet, "n1", [replace(device(), engines=engines)])
        job = await submit(fleet, job_spec(patience_s=0.0))
        assert (await ended(fleet, job)).job.state == "failed"
        inspect = await state(fleet, job, "net/inspect")
        assert (inspect.failure.code, "no\N{REPLACEMENT CHARACTER}such file" in inspect.failure.what) == (
            ErrorCode.TARGET_UNSERVABLE,
            True,
        )

    play(scenario)


def test_a_cordoned_node_gets_nothing_and_a_drained_one_keeps_what_it_has(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1", [device(slots=1)])
        await fleet.control.CordonNode(control_pb2.CordonNodeRequest(node="n1"))
        job = await submit(fleet, job_spec())
        assert await node.acquire() == []
        assert await shown(fleet) == {"n1": "cordoned"}
        poll = asyncio.create_task(node.acquire(10))
        await fleet.control.UncordonNode(control_pb2.UncordonNodeRequest(node="n1"))
        held = await poll
        assert (await fleet.control.DrainNode(control_pb2.DrainNodeRequest(node="n1"))).leased == 1
        assert await shown(fleet) == {"n1": "draining"}
        await node.complete(held[0])
        assert await node.acquire() == []
        assert await shown(fleet) == {"n1": "drained"}
        await node.register()
        async with working(node):
            assert (await ended(fleet, job)).job.state == "succeeded"
        await refused(fleet.control.DrainNode(control_pb2.DrainNodeRequest(node="n2")), ErrorCode.NODE_NOT_FOUND)

    play(scenario)


def test_who_calls_is_what_the_certificate_says(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        viewer = ControlStub(fleet.channel(await fleet.login("vera", "viewer")))
        await viewer.ListJobs(control_pb2.ListJobsRequest())
        submission = control_pb2.SubmitJobRequest(request_id="x")
        await refused(viewer.SubmitJob(submission), ErrorCode.ROLE_INSUFFICIENT)
        await refused(viewer.ListAudit(control_pb2.ListAuditRequest()), ErrorCode.ROLE_INSUFFICIENT)
        await refused(ControlStub(node.channel).ListJobs(control_pb2.ListJobsRequest()), ErrorCode.WRONG_KIND_OF_CALLER)
        await fleet.control.RevokeUser(control_pb2.RevokeUserRequest(user="vera"))
        await refused(viewer.ListJobs(control_pb2.ListJobsRequest()), ErrorCode.CERTIFICATE_REVOKED)
        oddity = control_pb2.CreateTokenRequest(purpose="usr", name="x", ttl_s=60)
        await refused(fleet.control.CreateToken(oddity), ErrorCode.USAGE)
        audit = (await fleet.control.ListAudit(control_pb2.ListAuditRequest())).entries
        assert [entry.sequence for entry in audit] == list(range(1, len(audit) + 1))
        assert ("user/admin", "user.revoke", "vera") in [(e.actor, e.action, e.subject) for e in audit]

    play(scenario)


def test_a_registration_without_proper_names_changes_nothing(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        known, node.incarnation = node.incarnation, ""
        await refused(node.register(), ErrorCode.USAGE)
        await refused(node.acquire(), ErrorCode.INCARNATION_STALE)
        node.incarnation = "a\0b"
        await refused(node.register(), ErrorCode.USAGE)
        node.incarnation = known
        await submit(fleet, job_spec())
        assert len(await node.acquire()) == 1
        silent = ScriptedNode(fleet.channel(await fleet.enrol("n2")), incarnation="")
        await refused(silent.acquire(), ErrorCode.INCARNATION_STALE)

    play(scenario)


def test_facts_that_no_report_could_hold_are_refused(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        tested = VnniSelfTest(1.0, 2.0, float("nan"), "int8-fast")
        node.devices = (replace(device(), hardware=replace(device().hardware, vnni=tested)),)
        await refused(node.register(), ErrorCode.USAGE)
        node.devices = (device(machine=""),)
        await refused(node.register(), ErrorCode.USAGE)
        node.devices = (device(),)
        await node.register()

    play(scenario)
