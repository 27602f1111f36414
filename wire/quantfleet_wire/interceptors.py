"""Errors at both ends of a call: raised as a status by a server, raised again as the same typed error by a client.

Not for who may call what: that is `identity`.
"""

import asyncio
import functools
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.errors import from_rpc_error, is_from_transport, to_status

_log = logging.getLogger(__name__)

# grpc's handlers, contexts, requests and continuations are generic over messages that an interceptor never looks at.
Context = grpc.aio.ServicerContext[Any, Any]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # the class is generic in its types only
    Handler = grpc.RpcMethodHandler
Around = Callable[[Context], AbstractAsyncContextManager[None]]
Diagnose = Callable[[QuantfleetError], QuantfleetError]


def wrap_handler(handler: Handler, around: Around) -> Handler:
    """The same handler with `around(context)` entered before the servicer's method and left after its last response.

    For `grpc.aio` servicers of all four shapes: coroutines, asynchronous generators, or coroutines that call
    `context.write` themselves. `around` runs in the task of the call.
    """
    inner = _behaviour(handler)

    async def respond_once(request: Any, context: Context) -> Any:
        async with around(context):
            return await inner(request, context)

    async def respond_many(request: Any, context: Context) -> AsyncIterator[Any]:
        async with around(context):
            responses = inner(request, context)
            if inspect.isasyncgen(responses):
                async for response in responses:
                    yield response
            else:
                await responses

    if handler.request_streaming and handler.response_streaming:
        make: Callable[..., Handler] = grpc.stream_stream_rpc_method_handler
    elif handler.request_streaming:
        make = grpc.stream_unary_rpc_method_handler
    elif handler.response_streaming:
        make = grpc.unary_stream_rpc_method_handler
    else:
        make = grpc.unary_unary_rpc_method_handler
    wrapped = respond_many if handler.response_streaming else respond_once
    return make(wrapped, handler.request_deserializer, handler.response_serializer)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns a `QuantfleetError` of any servicer method into its status; put it first, so that it sees all others.

    Any other exception becomes INTERNAL with a reference that is in the log beside the traceback, and nothing more.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return wrap_handler(handler, functools.partial(_errors_to_status, handler_call_details.method))


@asynccontextmanager
async def _errors_to_status(method: str, context: Context) -> AsyncIterator[None]:
    try:
        yield
    except QuantfleetError as error:
        code, message, trailing = to_status(error)
    except grpc.aio.AbortError:
        raise
    except Exception:
        reference = secrets.token_hex(4)
        _log.exception("%s failed (reference %s)", method, reference)
        what = f"the coordinator failed on {method.rpartition('/')[2]} (reference {reference})"
        todo = "look for this reference in the coordinator's log"
        code, message, trailing = to_status(QuantfleetError(ErrorCode.INTERNAL, what, todo))
    else:
        return
    await context.abort(code, message, trailing)


def _behaviour(handler: Handler) -> Callable[[Any, Context], Any]:
    for behaviour in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream):
        if behaviour is not None:
            return behaviour  # type: ignore[return-value]  # stubs give the synchronous context; ours is grpc.aio's
    raise TypeError("a method handler without a behaviour")


class _TypedStream:
    """A synchronous response stream that raises typed errors; all else (`cancel`, `code`, …) is the call's own."""

    def __init__(self, call: Any, typed: Callable[[grpc.RpcError], QuantfleetError]) -> None:
        self._call = call
        self._typed = typed

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise self._typed(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class TypedErrors(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Makes every call of a synchronous channel raise `QuantfleetError` in place of `grpc.RpcError`.

    `diagnose` is asked for the reason when the transport failed, because gRPC says UNAVAILABLE for every refused
    handshake; it may block for seconds.
    """

    def __init__(self, diagnose: Diagnose | None = None) -> None:
        self._diagnose = diagnose

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Raise the typed error of the call, or return the finished call."""
        return self._finished(continuation(client_call_details, request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Raise the typed error of the call, or return the finished call."""
        return self._finished(continuation(client_call_details, request_iterator))

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Return the responses, which raise the typed error when the call fails."""
        return _TypedStream(continuation(client_call_details, request), self._typed)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Return the responses, which raise the typed error when the call fails."""
        return _TypedStream(continuation(client_call_details, request_iterator), self._typed)

    def _finished(self, call: Any) -> Any:
        try:
            call.result()
        except grpc.RpcError as error:
            raise self._typed(error) from error
        return call

    def _typed(self, error: grpc.RpcError) -> QuantfleetError:
        typed = from_rpc_error(error)
        return self._diagnose(typed) if self._diagnose and is_from_transport(error) else typed


def typed_aio_errors(diagnose: Diagnose | None = None) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors that make every call of a `grpc.aio` channel raise `QuantfleetError`; see `TypedErrors`.

    Four objects, because grpc.aio registers an interceptor for the first shape of call only. `diagnose` runs in a
    thread. A request stream is given as an iterator: `call.write` waits for an interceptor that waits for the call.
    """
    return [kind(diagnose) for kind in (_AioUnaryUnary, _AioStreamUnary, _AioUnaryStream, _AioStreamStream)]


class _AioErrors:
    def __init__(self, diagnose: Diagnose | None) -> None:
        self._diagnose = diagnose

    async def _finished(self, starting: Awaitable[Any]) -> Any:
        try:
            call = await starting
            await call
        except grpc.RpcError as error:
            raise await self._typed(error) from error
        return call

    async def _responses(self, call: Any) -> AsyncIterator[Any]:
        try:
            async for response in call:
                yield response
        except grpc.RpcError as error:
            raise await self._typed(error) from error

    async def _typed(self, error: grpc.RpcError) -> QuantfleetError:
        typed = from_rpc_error(error)
        if self._diagnose and is_from_transport(error):
            return await asyncio.to_thread(self._diagnose, typed)
        return typed


class _AioUnaryUnary(_AioErrors, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._finished(continuation(client_call_details, request))


class _AioStreamUnary(_AioErrors, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._finished(continuation(client_call_details, request_iterator))


class _AioUnaryStream(_AioErrors, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._responses(await continuation(client_call_details, request))


class _AioStreamStream(_AioErrors, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._responses(await continuation(client_call_details, request_iterator))
