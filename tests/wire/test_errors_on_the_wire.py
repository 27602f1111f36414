"""Every error of the catalogue crosses a real server and comes back as itself."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.wire.pki import Fleet, Served, Services, answer, in_a_loop, serving

from quantfleet_domain.errors import CATALOGUE, Category, ErrorCode, QuantfleetError
from quantfleet_wire.errors import EXIT_CODE_OF, STATUS_OF, exit_code, from_rpc_error, is_from_transport, to_status
from quantfleet_wire.tls import aio_channel, channel

HEALTH = "grpc.health.v1.Health"


async def raise_named(request: bytes) -> None:
    """Raise the error of the catalogue that the request names, or a bug."""
    await asyncio.sleep(0)
    if request == b"bug":
        raise ZeroDivisionError("the password is hunter2")
    raise QuantfleetError(ErrorCode[request.decode()], f"what of {request.decode()}, naïve", "what to do")


async def unary(request: bytes, context: Any) -> bytes:
    await raise_named(request)
    return b""


async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    await raise_named(request)


async def written(request: bytes, context: Any) -> None:
    await context.write(b"first")
    await raise_named(request)


async def collected(requests: AsyncIterator[bytes], context: Any) -> bytes:
    async for request in requests:
        await raise_named(request)
    return b""


async def exchanged(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    async for request in requests:
        await raise_named(request)


SERVICES: Services = {
    HEALTH: {
        "Unary": answer(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Written": grpc.unary_stream_rpc_method_handler(written),
        "Collected": grpc.stream_unary_rpc_method_handler(collected),
        "Exchanged": grpc.stream_stream_rpc_method_handler(exchanged),
    }
}


def call_each_shape(made: grpc.Channel, request: bytes) -> list[Callable[[], Any]]:
    return [
        lambda: made.unary_unary(f"/{HEALTH}/Unary")(request),
        lambda: list(made.unary_stream(f"/{HEALTH}/Stream")(request)),
        lambda: list(made.unary_stream(f"/{HEALTH}/Written")(request)),
        lambda: made.stream_unary(f"/{HEALTH}/Collected")(iter([request])),
        lambda: list(made.stream_stream(f"/{HEALTH}/Exchanged")(iter([request]))),
    ]


async def aio_call(made: grpc.aio.Channel, shape: str, request: bytes) -> None:
    async def requests() -> AsyncIterator[bytes]:
        yield request

    if shape == "Unary":
        await made.unary_unary(f"/{HEALTH}/Unary")(request)
    elif shape == "Collected":
        await made.stream_unary(f"/{HEALTH}/Collected")(requests())
    else:
        start = made.stream_stream(f"/{HEALTH}/Exchanged") if shape == "Exchanged" else None
        call = start(requests()) if start else made.unary_stream(f"/{HEALTH}/{shape}")(request)
        assert [response async for response in call] == [b"first"]


def test_every_category_has_a_status_of_its_own_and_an_exit_code() -> None:
    assert set(STATUS_OF) == set(EXIT_CODE_OF) == set(Category)
    assert len(set(STATUS_OF.values())) == len(STATUS_OF)
    assert set(EXIT_CODE_OF.values()) == {1, 2, 4, 5}
    assert exit_code(QuantfleetError(ErrorCode.COORDINATOR_UNREACHABLE, "")) == 4


@in_a_loop
async def test_every_error_comes_back_as_itself(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES) as served, aio_channel(served.to(fleet.user())) as made:
        for code in CATALOGUE:
            with pytest.raises(QuantfleetError) as caught:
                await aio_call(made, "Unary", code.name.encode())
            assert (caught.value.code, caught.value.what, caught.value.todo) == (
                code,
                f"what of {code.name}, naïve",
                "what to do",
            )
            assert isinstance(caught.value.__cause__, grpc.RpcError)
            assert caught.value.__cause__.code() is STATUS_OF[CATALOGUE[code]]


@pytest.mark.parametrize("shape", ["Unary", "Stream", "Written", "Collected", "Exchanged"])
@in_a_loop
async def test_errors_cross_every_shape_of_call(tmp_path: Path, shape: str) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES) as served, aio_channel(served.to(fleet.node())) as made:
        with pytest.raises(QuantfleetError, match="LEASE_STALE") as caught:
            await aio_call(made, shape, b"LEASE_STALE")
    assert caught.value.code is ErrorCode.LEASE_STALE


@in_a_loop
async def test_a_synchronous_channel_raises_the_same_errors(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES) as served:

        def calls() -> list[ErrorCode]:
            codes = []
            with channel(served.to(fleet.user())) as made:
                for call in call_each_shape(made, b"JOB_NOT_FOUND"):
                    with pytest.raises(QuantfleetError) as caught:
                        call()
                    codes.append(caught.value.code)
            return codes

        assert await asyncio.to_thread(calls) == [ErrorCode.JOB_NOT_FOUND] * 5


@in_a_loop
async def test_a_bug_shows_a_reference_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet(tmp_path)
    with caplog.at_level(logging.ERROR, "quantfleet_wire.interceptors"):
        async with serving(fleet, SERVICES) as served, aio_channel(served.to(fleet.user())) as made:
            with pytest.raises(QuantfleetError) as caught:
                await aio_call(made, "Stream", b"bug")
    assert caught.value.code is ErrorCode.INTERNAL
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"
    (reference,) = re.findall(r"reference (\w+)", caught.value.what)
    (record,) = [record for record in caplog.records if reference in record.getMessage()]
    assert record.exc_info


@in_a_loop
async def test_a_long_text_is_cut_and_still_arrives(tmp_path: Path) -> None:
    async def long(request: bytes, context: Any) -> bytes:
        raise QuantfleetError(ErrorCode.JOB_INVALID, "ü" * 50_000, "ß" * 50_000)

    fleet = Fleet(tmp_path)
    async with serving(fleet, {HEALTH: {"Long": answer(long)}}) as served, aio_channel(served.to(fleet.user())) as made:
        with pytest.raises(QuantfleetError) as caught:
            await made.unary_unary(f"/{HEALTH}/Long")(b"")
    assert caught.value.code is ErrorCode.JOB_INVALID
    assert caught.value.what.startswith("üü")
    assert caught.value.what.endswith("…")


@in_a_loop
async def test_a_coordinator_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES) as served:
        gone = Served(served.address, served.denylist)
    async with aio_channel(gone.to(fleet.user())) as made:
        with pytest.raises(QuantfleetError) as caught:
            await aio_call(made, "Unary", b"USAGE")
    assert caught.value.code is ErrorCode.COORDINATOR_UNREACHABLE
    assert served.address in caught.value.what


@in_a_loop
async def test_a_call_out_of_time_is_unreachable(tmp_path: Path) -> None:
    never = asyncio.Event()

    async def silent(request: bytes, context: Any) -> bytes:
        await never.wait()
        return b""

    fleet = Fleet(tmp_path)
    services = {HEALTH: {"Silent": answer(silent)}}
    async with serving(fleet, services) as served, aio_channel(served.to(fleet.user())) as made:
        with pytest.raises(QuantfleetError) as caught:
            await made.unary_unary(f"/{HEALTH}/Silent")(b"", timeout=0.2)
    assert caught.value.code is ErrorCode.COORDINATOR_UNREACHABLE


def test_an_error_of_a_newer_coordinator_keeps_its_name_and_text() -> None:
    class Newer(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.NOT_FOUND

        def details(self) -> str:
            return "no such thing"

        def trailing_metadata(self) -> Any:
            _, _, ((key, value),) = to_status(QuantfleetError(ErrorCode.JOB_NOT_FOUND, "no such thing"))
            return ((key, value.replace(b"JOB_NOT_FOUND", b"BOX_NOT_FOUND")),)

    error = from_rpc_error(Newer())
    assert error.code is ErrorCode.INTERNAL
    assert error.what == "BOX_NOT_FOUND: no such thing"
    assert "newer" in error.todo


def test_a_connection_that_breaks_while_sending_is_unreachable_and_no_bug() -> None:
    # What grpc.aio raised under load when a server was stopped in the middle of an upload.
    broken = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core"
    )
    assert from_rpc_error(broken).code is ErrorCode.COORDINATOR_UNREACHABLE
    assert is_from_transport(broken)
