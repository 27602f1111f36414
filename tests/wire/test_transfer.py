import asyncio
import random
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_coordinator.servicers.artifacts import ArtifactsServicer
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_protos.v1.artifacts_pb2 import StatRequest, UploadHeader, UploadRequest
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub, add_ArtifactsServicer_to_server
from quantfleet_wire import transfer
from quantfleet_wire.interceptors import ErrorInterceptor, typed_aio_errors
from quantfleet_wire.transfer import digest_bytes, digest_file, download, fetch_bytes, upload, upload_missing

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub

MIB = 1 << 20
CONTENT = random.Random(3).randbytes(16 * MIB + 17)
DIGEST = digest_bytes(CONTENT)


@dataclass
class Coordinator:
    """An Artifacts service on a real port, and what it recorded."""

    directory: ArtifactDirectory
    port: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    before_record: Callable[[], Awaitable[None]] | None = None

    async def record(self, digest: str, size: int) -> None:
        if self.before_record is not None:
            await self.before_record()
        self.rows[digest] = size

    def may_read(self, digest: str) -> None:
        if digest in self.forbidden:
            raise QuantfleetError(ErrorCode.ARTIFACT_FORBIDDEN, "not leased to you")


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(ArtifactDirectory(tmp_path / "artifacts"))
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    servicer = ArtifactsServicer(coordinator.directory, coordinator.record, coordinator.may_read)
    add_ArtifactsServicer_to_server(servicer, server)
    coordinator.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield coordinator
    finally:
        await server.stop(None)


@asynccontextmanager
async def calling(port: int, typed: bool = True) -> AsyncIterator["ArtifactsAsyncStub"]:
    interceptors = typed_aio_errors() if typed else []
    options = [("grpc.initial_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options, interceptors=interceptors) as channel:
        yield ArtifactsStub(channel)


class CuttingProxy:
    """Forwards TCP, counts the bytes each way, and cuts every connection when a direction has carried `limit`."""

    def __init__(self, target: int, limit: int) -> None:
        self.up = self.down = 0
        self.cuts = 0
        self._target = target
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        for task in self._tasks:
            task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        both = (writer, far_writer)
        for source, sink, way in ((reader, far_writer, "up"), (far_reader, writer, "down")):
            task = asyncio.create_task(self._forward(source, sink, way, both))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str, both: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
                carried = getattr(self, way) + len(data)
                setattr(self, way, carried)
                if carried > self._limit and not self.cuts:
                    self.cuts += 1
                    break
        except ConnectionError:
            pass
        for writer in both:
            writer.transport.abort()


def code_of(outcome: object) -> ErrorCode:
    assert isinstance(outcome, QuantfleetError), repr(outcome)
    return outcome.code


async def failure(call: Awaitable[object]) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as raised:
        await call
    return raised.value


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path


def test_what_is_uploaded_is_downloaded(tmp_path: Path, source: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            await upload(stub, source, DIGEST)
            await upload(stub, b"", digest_bytes(b""))
            assert coordinator.rows == {DIGEST: len(CONTENT), digest_bytes(b""): 0}
            await download(stub, DIGEST, tmp_path / "cache" / "model.onnx")
            assert (tmp_path / "cache" / "model.onnx").read_bytes() == CONTENT
            assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model.onnx"]
            assert await fetch_bytes(stub, DIGEST) == CONTENT
            assert await fetch_bytes(stub, digest_bytes(b"")) == b""

    asyncio.run(body())
    assert digest_file(source) == DIGEST


@pytest.mark.parametrize("typed", [True, False], ids=["typed-channel", "plain-channel"])
def test_an_upload_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path, source: Path, typed: bool) -> None:
    async def body() -> int:
        async with serving(tmp_path) as coordinator:
            proxy = CuttingProxy(coordinator.port, 12 * MIB)
            async with proxy.running() as port, calling(port, typed) as stub:
                await upload(stub, source, DIGEST)
            assert proxy.cuts == 1
            assert coordinator.rows == {DIGEST: len(CONTENT)}
            assert coordinator.directory.path(DIGEST).read_bytes() == CONTENT
            return proxy.up

    # What was in flight at the cut travels twice; starting again would be 28 MiB.
    assert asyncio.run(body()) < 24 * MIB


@pytest.mark.parametrize("typed", [True, False], ids=["typed-channel", "plain-channel"])
def test_a_download_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path, typed: bool) -> None:
    async def body() -> int:
        async with serving(tmp_path) as coordinator:
            coordinator.directory.put_bytes(CONTENT)
            proxy = CuttingProxy(coordinator.port, 12 * MIB)
            async with proxy.running() as port, calling(port, typed) as stub:
                await download(stub, DIGEST, tmp_path / "model")
            assert proxy.cuts == 1
            assert (tmp_path / "model").read_bytes() == CONTENT
            return proxy.down

    assert asyncio.run(body()) < 24 * MIB


def test_a_download_goes_on_from_what_an_earlier_process_left(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            coordinator.directory.put_bytes(CONTENT)
            # Cut inside the artifact: only the end is still there to be sent.
            (tmp_path / "model.partial").write_bytes(CONTENT[: 10 * MIB])
            coordinator.directory.path(DIGEST).write_bytes(bytes(10 * MIB) + CONTENT[10 * MIB :])
            await download(stub, DIGEST, tmp_path / "model")
            assert (tmp_path / "model").read_bytes() == CONTENT

    asyncio.run(body())


@pytest.mark.parametrize("left", [b"rubbish", bytes(len(CONTENT)), bytes(len(CONTENT) + 1)])
def test_a_wrong_rest_of_an_earlier_download_is_thrown_away(tmp_path: Path, left: bytes) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            coordinator.directory.put_bytes(CONTENT)
            (tmp_path / "model.partial").write_bytes(left)
            await download(stub, DIGEST, tmp_path / "model")
            assert (tmp_path / "model").read_bytes() == CONTENT

    asyncio.run(body())


def test_a_wrong_rest_of_an_earlier_upload_is_thrown_away(tmp_path: Path, source: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            partial = coordinator.directory.begin(DIGEST, len(CONTENT))
            partial.write(b"rubbish")
            partial.abort()
            await upload(stub, source, DIGEST)
            assert coordinator.directory.path(DIGEST).read_bytes() == CONTENT

    asyncio.run(body())


def test_content_damaged_at_the_coordinator_never_reaches_its_place(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            coordinator.directory.put_bytes(CONTENT)
            coordinator.directory.path(DIGEST).write_bytes(CONTENT[:-1] + b"!")
            (tmp_path / "model").write_text("what was there before")
            error = await failure(download(stub, DIGEST, tmp_path / "model"))
            assert error.code is ErrorCode.DIGEST_MISMATCH
            assert (tmp_path / "model").read_text() == "what was there before"
            assert code_of(await failure(fetch_bytes(stub, DIGEST))) is ErrorCode.DIGEST_MISMATCH

    asyncio.run(body())


def test_a_source_without_the_digest_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            assert code_of(await failure(upload(stub, b"something else", DIGEST))) is ErrorCode.DIGEST_MISMATCH
            assert not coordinator.directory.has(DIGEST)
            assert coordinator.rows == {}
            assert code_of(await failure(upload(stub, b"x", "../escape"))) is ErrorCode.USAGE
            assert code_of(await failure(download(stub, "../x", tmp_path / "x"))) is ErrorCode.USAGE

    asyncio.run(body())


def test_refusals_of_the_coordinator_pass_through(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            assert code_of(await failure(fetch_bytes(stub, DIGEST))) is ErrorCode.ARTIFACT_NOT_FOUND
            secret = coordinator.directory.put_bytes(b"secret")
            coordinator.forbidden.add(secret)
            assert code_of(await failure(fetch_bytes(stub, secret))) is ErrorCode.ARTIFACT_FORBIDDEN
            assert code_of(await failure(stub.Stat(StatRequest(digests=[DIGEST] * 4097)))) is ErrorCode.USAGE

            async def headless() -> AsyncIterator[UploadRequest]:
                yield UploadRequest(chunk=b"x")

            assert code_of(await failure(stub.Upload(headless()))) is ErrorCode.USAGE

    asyncio.run(body())


def test_an_upload_that_ends_early_is_kept_and_not_stored(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:

            async def short() -> AsyncIterator[UploadRequest]:
                yield UploadRequest(header=UploadHeader(digest=DIGEST, size=len(CONTENT)))
                yield UploadRequest(chunk=CONTENT[:100])

            assert code_of(await failure(stub.Upload(short()))) is ErrorCode.DIGEST_MISMATCH
            (status,) = (await stub.Stat(StatRequest(digests=[DIGEST]))).artifacts
            assert (status.present, status.size) == (False, 100)

    asyncio.run(body())


def test_a_full_disk_is_a_typed_error_and_the_server_serves_on(tmp_path: Path, source: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            # A limit on the size of files stands in for a full disk.
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, hard))
            try:
                assert code_of(await failure(upload(stub, source, DIGEST))) is ErrorCode.STORAGE_FULL
                assert coordinator.directory.partial_size(DIGEST) == 0
                await upload(stub, b"small", digest_bytes(b"small"))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await upload(stub, source, DIGEST)
            assert set(coordinator.rows) == {DIGEST, digest_bytes(b"small")}
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, hard))
            try:
                error = await failure(download(stub, DIGEST, tmp_path / "model"))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert error.code is ErrorCode.STORAGE_FULL

    asyncio.run(body())
    assert list(tmp_path.glob("model*")) == []


def test_an_artifact_whose_row_failed_is_not_reported_until_it_has_one(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:

            async def fail() -> None:
                raise QuantfleetError(ErrorCode.STORAGE_FULL, "the disk of the store is full")

            coordinator.before_record = fail
            digest = digest_bytes(b"x")
            assert code_of(await failure(upload(stub, b"x", digest))) is ErrorCode.STORAGE_FULL
            coordinator.before_record = None
            await upload(stub, b"x", digest)
            assert coordinator.rows == {digest: 1}

    asyncio.run(body())


def test_an_artifact_gets_its_row_though_its_sender_is_gone(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            recording, sender_gone, recorded = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def wait() -> None:
                recording.set()
                await sender_gone.wait()
                recorded.set()

            coordinator.before_record = wait
            sending = asyncio.create_task(upload(stub, b"x", digest_bytes(b"x")))
            await recording.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            # The server has heard of the cancellation when it answers a later call.
            assert not (await stub.Stat(StatRequest(digests=[digest_bytes(b"x")]))).artifacts[0].present
            sender_gone.set()
            await recorded.wait()
            assert (await stub.Stat(StatRequest(digests=[digest_bytes(b"x")]))).artifacts[0].present

    asyncio.run(body())


def test_only_what_is_missing_travels_and_progress_is_told(tmp_path: Path) -> None:
    async def body() -> None:
        files: dict[str, Path] = {}
        (tmp_path / "data").mkdir()
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            for number in range(4200):
                content = number.to_bytes(4, "big") * 10
                digest = digest_bytes(content)
                files[digest] = tmp_path / "data" / str(number)
                if number % 100:  # stored already; the source need not even be there
                    coordinator.directory.path(digest).parent.mkdir(exist_ok=True)
                    coordinator.directory.path(digest).write_bytes(content)
                else:
                    files[digest].write_bytes(content)
            heard: list[tuple[int, int]] = []
            await upload_missing(stub, files, lambda done, total: heard.append((done, total)))
            assert len(coordinator.rows) == 42
            assert heard == [(40 * count, 42 * 40) for count in range(1, 43)]
            await upload_missing(stub, files)
            await upload_missing(stub, {})

    asyncio.run(body())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path) as coordinator, calling(coordinator.port) as stub:
            error = await failure(upload_missing(stub, {DIGEST: tmp_path / "gone.jpg"}))
            assert error.code is ErrorCode.DATA_NOT_FOUND
            assert "gone.jpg" in error.what
            (tmp_path / "folder").mkdir()
            error = await failure(upload_missing(stub, {DIGEST: tmp_path / "folder"}))
            assert error.code is ErrorCode.DATA_NOT_FOUND
            assert "folder" in error.what

    asyncio.run(body())


def test_nobody_there_is_an_error_after_six_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_FIRST_PAUSE_S", 0.001)

    async def body() -> None:
        async with serving(tmp_path) as coordinator:
            port = coordinator.port
        async with calling(port) as stub:
            for call in (
                upload(stub, b"x", digest_bytes(b"x")),
                fetch_bytes(stub, DIGEST),
                upload_missing(stub, {DIGEST: tmp_path}),
            ):
                assert code_of(await failure(call)) is ErrorCode.COORDINATOR_UNREACHABLE

    asyncio.run(body())
