"""The cache of a node's inputs, filled from a real coordinator."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import EvaluateWork, InspectWork, Slice, Variant
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.transfer import upload
from quantfleet_worker.agent.cache import Cache

Scenario = Callable[[LocalFleet, Cache], Awaitable[None]]


def play(tmp_path: Path, scenario: Scenario, limit_bytes: int = 0) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            await scenario(fleet, Cache(tmp_path / "cache", limit_bytes))

    asyncio.run(main())


async def stored(fleet: LocalFleet, *contents: bytes) -> InspectWork:
    """A task whose inputs are these."""
    for content in contents:
        await upload(fleet.artifacts, content, digest_bytes(content))
    files = tuple(FileRef("x", digest_bytes(content), len(content)) for content in contents)
    return InspectWork("net", "onnx", files, (), None)


def names(cache: Cache) -> set[str]:
    return {path.name for path in cache.directory.iterdir()}


def test_a_file_stays_while_a_task_uses_it_and_goes_when_there_is_no_room(tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet, cache: Cache) -> None:
        one, both = await stored(fleet, b"a"), await stored(fleet, b"a", b"b")
        async with cache.inputs(fleet.artifacts, one):
            async with cache.inputs(fleet.artifacts, both):
                assert names(cache) == {digest_bytes(b"a"), digest_bytes(b"b")}
            assert names(cache) == {digest_bytes(b"a")}
        assert names(cache) == set()

    play(tmp_path, scenario)


def test_the_masks_of_a_slice_and_the_annotations_come_with_its_samples(tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet, cache: Cache) -> None:
        def ref(name: str) -> FileRef:
            return FileRef(name, digest_bytes(name.encode()), len(name))

        samples = (Sample(name, ref(name).digest, 1, mask=ref(f"mask of {name}")) for name in ("a", "b"))
        content = Manifest(tuple(samples)).to_json()
        manifest = FileRef("manifest.json", digest_bytes(content), len(content))
        work = EvaluateWork(
            model="net",
            engine="onnxruntime-cpu",
            variant=Variant("fp32", "none", ()),
            input_shapes=(),
            data=Slice(manifest, 0, 1),
            preprocess=None,
            annotations=ref("boxes"),
        )
        await stored(fleet, content, b"a", b"mask of a", b"boxes")
        async with cache.inputs(fleet.artifacts, work):
            wanted = {manifest.digest, *(ref(name).digest for name in ("a", "mask of a", "boxes"))}
            assert names(cache) == wanted

    play(tmp_path, scenario)


def test_what_interrupted_downloads_left_counts_and_goes_too(tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet, cache: Cache) -> None:
        (cache.directory / f"{'0' * 64}.partial").write_bytes(b"half")
        async with cache.inputs(fleet.artifacts, await stored(fleet, b"a")):
            pass
        assert names(cache) == set()

    play(tmp_path, scenario)


def test_a_file_that_vanishes_meanwhile_spoils_no_task(tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet, cache: Cache) -> None:
        # As a file that another task removes between being listed and being looked at.
        (cache.directory / ("0" * 64)).symlink_to("nowhere")
        async with cache.inputs(fleet.artifacts, await stored(fleet, b"a")):
            pass

    play(tmp_path, scenario)


def test_nothing_is_fetched_or_remembered_for_a_task_whose_inputs_cannot_be_had(tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet, cache: Cache) -> None:
        work = await stored(fleet, *(bytes([i]) * 100_000 for i in range(40)))
        missing = InspectWork("net", "onnx", (FileRef("x", "0" * 64, 1), *work.files), (), None)
        before = asyncio.all_tasks()
        with pytest.raises(QuantfleetError) as failed:
            async with cache.inputs(fleet.artifacts, missing):
                raise AssertionError("it has not all its inputs")
        assert failed.value.code is ErrorCode.ARTIFACT_NOT_FOUND
        fetching = [t for t in asyncio.all_tasks() - before if "cache" in repr(t.get_coro())]
        assert fetching == []
        assert (cache._fetching, dict(cache._used)) == ({}, {})

    play(tmp_path, scenario, limit_bytes=2**30)
