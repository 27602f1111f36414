"""What each role may do, by the real coordinator's table."""

import asyncio
from pathlib import Path

import pytest

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_protos.v1 import control_pb2
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub
from quantfleet_protos.v1.control_pb2_grpc import ControlStub
from quantfleet_wire.transfer import digest_bytes, fetch_bytes, upload


def test_a_viewer_reads_files_and_cannot_fill_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            digest = digest_bytes(b"a file")
            viewer = ArtifactsStub(fleet.channel(await fleet.login("vera", "viewer")))
            with pytest.raises(QuantfleetError) as refused:
                await upload(viewer, b"a file", digest)
            assert refused.value.code is ErrorCode.ROLE_INSUFFICIENT
            submitter = ArtifactsStub(fleet.channel(await fleet.login("sam", "submitter")))
            await upload(submitter, b"a file", digest)
            assert await fetch_bytes(viewer, digest) == b"a file"

    asyncio.run(main())


def test_a_submitter_cannot_expel_a_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            await fleet.enrol("n1")
            submitter = ControlStub(fleet.channel(await fleet.login("sam", "submitter")))
            assert [n.name for n in (await submitter.ListNodes(control_pb2.ListNodesRequest())).nodes] == ["n1"]
            with pytest.raises(QuantfleetError) as refused:
                await submitter.RevokeNode(control_pb2.RevokeNodeRequest(node="n1"))
            assert refused.value.code is ErrorCode.ROLE_INSUFFICIENT

    asyncio.run(main())
