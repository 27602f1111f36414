"""How an error of the catalogue crosses the wire and becomes an exit code. Not for which errors there are.

The status carries `google.rpc.Status` in the trailing metadata `grpc-status-details-bin`, as gRPC's richer error model
says (https://grpc.io/docs/guides/error/); its one detail is a `google.rpc.ErrorInfo` with the code as `reason`.
"""

from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]  # has .pyi files, lacks py.typed
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has .pyi files, lacks py.typed

from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError

STATUS_OF: Final[dict[Category, grpc.StatusCode]] = {
    Category.BAD_INPUT: grpc.StatusCode.INVALID_ARGUMENT,
    Category.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Category.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    Category.STALE: grpc.StatusCode.ABORTED,
    Category.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Category.REFUSED: grpc.StatusCode.PERMISSION_DENIED,
    Category.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Category.UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Category.FAILED: grpc.StatusCode.UNKNOWN,
    Category.INTERNAL: grpc.StatusCode.INTERNAL,
}
EXIT_CODE_OF: Final[dict[Category, int]] = {
    Category.BAD_INPUT: 2,
    Category.NOT_FOUND: 2,
    Category.CONFLICT: 5,
    Category.STALE: 5,
    Category.UNAUTHENTICATED: 5,
    Category.REFUSED: 5,
    Category.EXHAUSTED: 5,
    Category.UNREACHABLE: 4,
    Category.FAILED: 1,
    Category.INTERNAL: 1,
}
DETAILS_KEY: Final = "grpc-status-details-bin"

_DOMAIN: Final = "quantfleet"
# gRPC refuses metadata above 8 KiB; the text travels twice: percent-encoded (up to three bytes a byte) and in base64.
_WHAT_BYTES: Final = 1200
_TODO_BYTES: Final = 600
# What grpc.aio says of a connection that broke while it was sending.
_BROKEN: Final = (grpc.StatusCode.INTERNAL, "Internal error from Core")
_CUT_OFF: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def exit_code(error: QuantfleetError) -> int:
    """The exit code of a command that ended with `error`: 1 failed, 2 bad input, 4 unreachable, 5 refused."""
    return EXIT_CODE_OF[error.category]


def to_status(error: QuantfleetError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """The arguments of `context.abort`: status code, message (`what`, cut at 1,200 bytes), trailing metadata."""
    code, what = STATUS_OF[error.category], _cut(error.what, _WHAT_BYTES)
    status = Status(code=code.value[0], message=what)
    todo = {"todo": _cut(error.todo, _TODO_BYTES)} if error.todo else {}
    status.details.add().Pack(ErrorInfo(reason=error.code.name, domain=_DOMAIN, metadata=todo))
    return code, what, ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.RpcError) -> QuantfleetError:
    """The typed error of a failed call: the one that the other side raised, or what gRPC's own status means.

    A status without our details comes from the transport: UNAVAILABLE, DEADLINE_EXCEEDED and CANCELLED become
    COORDINATOR_UNREACHABLE, anything else INTERNAL.
    """
    code, message = _status_of(error)
    info = _error_info(error)
    if info is not None and info.reason in ErrorCode.__members__:
        return QuantfleetError(ErrorCode[info.reason], message, info.metadata.get("todo", ""))
    if info is not None:
        todo = "the coordinator is newer than this program: update this program"
        return QuantfleetError(ErrorCode.INTERNAL, f"{info.reason}: {message}", todo)
    if code in _CUT_OFF or (code, message) == _BROKEN:
        todo = "check that the coordinator runs and that its address and port are open from here"
        return QuantfleetError(
            ErrorCode.COORDINATOR_UNREACHABLE, f"the coordinator did not answer: {message or code.name}", todo
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        todo = "run the same version of quantfleet on both sides"
        return QuantfleetError(ErrorCode.INTERNAL, f"the coordinator does not know this call: {message}", todo)
    return QuantfleetError(ErrorCode.INTERNAL, f"the call failed with {code.name}: {message}")


def is_from_transport(error: grpc.RpcError) -> bool:
    """Whether gRPC itself gave up on the call (no connection, no time left), rather than the other side refusing it."""
    status = _status_of(error)
    return (status[0] in _CUT_OFF[:2] or status == _BROKEN) and _error_info(error) is None


def _status_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    # Only the errors of calls have these methods; a bare RpcError says nothing.
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if code is None or details is None:
        return grpc.StatusCode.UNKNOWN, str(error)
    return code() or grpc.StatusCode.UNKNOWN, details() or ""


def _error_info(error: grpc.RpcError) -> ErrorInfo | None:
    trailing = getattr(error, "trailing_metadata", None)
    for key, value in (trailing() if trailing else None) or ():
        if key != DETAILS_KEY:
            continue
        info = ErrorInfo()
        try:
            for detail in Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == _DOMAIN:
                    return info
        except DecodeError:
            return None
    return None


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "…"
