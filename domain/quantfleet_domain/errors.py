"""The error catalogue: every error a user can meet, once. Not for how a transport carries it."""

from enum import StrEnum


class Category(StrEnum):
    """What kind of trouble an error is; it decides the gRPC status on the wire and the exit code of the command."""

    BAD_INPUT = "bad-input"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    STALE = "stale"
    UNAUTHENTICATED = "unauthenticated"
    REFUSED = "refused"
    EXHAUSTED = "exhausted"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    INTERNAL = "internal"


class ErrorCode(StrEnum):
    """One entry per error: its code. `CATALOGUE` holds its category and what to do about it."""

    # what a user brings
    JOB_INVALID = "job-invalid"
    MODEL_NOT_FOUND = "model-not-found"
    MODEL_UNREADABLE = "model-unreadable"
    MODEL_UNSUPPORTED = "model-unsupported"
    SHAPE_MISSING = "shape-missing"
    DATA_EMPTY = "data-empty"
    DATA_NOT_FOUND = "data-not-found"
    SAMPLE_UNREADABLE = "sample-unreadable"
    SAMPLE_NOT_FINITE = "sample-not-finite"
    PREPROCESS_INVALID = "preprocess-invalid"
    SCALES_INVALID = "scales-invalid"
    REPORT_INVALID = "report-invalid"
    PARTIAL_INVALID = "partial-invalid"
    SAMPLES_OVERLAP = "samples-overlap"
    NUMERICS_MISMATCH = "numerics-mismatch"
    USAGE = "usage"
    # what is not there, or there already
    JOB_NOT_FOUND = "job-not-found"
    NODE_NOT_FOUND = "node-not-found"
    TOKEN_NOT_FOUND = "token-not-found"  # noqa: S105 - an error code, no secret
    ARTIFACT_NOT_FOUND = "artifact-not-found"
    POOL_NOT_FOUND = "pool-not-found"
    REPORT_NOT_READY = "report-not-ready"
    JOB_NOT_RETRYABLE = "job-not-retryable"
    REQUEST_REUSED = "request-reused"
    TARGET_UNSERVABLE = "target-unservable"
    # leases
    LEASE_STALE = "lease-stale"
    INCARNATION_STALE = "incarnation-stale"
    RESULT_CONFLICT = "result-conflict"
    # identity
    NO_CREDENTIALS = "no-credentials"
    CREDENTIALS_INVALID = "credentials-invalid"
    CSR_INVALID = "csr-invalid"
    CERTIFICATE_REQUIRED = "certificate-required"
    CERTIFICATE_FOREIGN = "certificate-foreign"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_REVOKED = "certificate-revoked"
    COORDINATOR_FOREIGN = "coordinator-foreign"
    TOKEN_MALFORMED = "token-malformed"  # noqa: S105 - an error code, no secret
    TOKEN_UNKNOWN = "token-unknown"  # noqa: S105 - an error code, no secret
    TOKEN_USED = "token-used"  # noqa: S105 - an error code, no secret
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - an error code, no secret
    ROLE_INSUFFICIENT = "role-insufficient"
    WRONG_KIND_OF_CALLER = "wrong-kind-of-caller"
    ARTIFACT_FORBIDDEN = "artifact-forbidden"
    CODE_NOT_ALLOWED = "code-not-allowed"
    RATE_LIMITED = "rate-limited"
    # machines
    STORAGE_FULL = "storage-full"
    DIGEST_MISMATCH = "digest-mismatch"
    STORE_FAILED = "store-failed"
    COORDINATOR_UNREACHABLE = "coordinator-unreachable"
    ENGINE_MISSING = "engine-missing"
    ENGINE_FAILED = "engine-failed"
    ENGINE_CRASHED = "engine-crashed"
    PHONE_LOST = "phone-lost"
    TASK_LOST = "task-lost"
    TASK_CANCELLED = "task-cancelled"
    JOB_FAILED = "job-failed"
    WORKER_FAILED = "worker-failed"
    INTERNAL = "internal"


CATALOGUE: dict[ErrorCode, Category] = {
    ErrorCode.JOB_INVALID: Category.BAD_INPUT,
    ErrorCode.MODEL_NOT_FOUND: Category.BAD_INPUT,
    ErrorCode.MODEL_UNREADABLE: Category.BAD_INPUT,
    ErrorCode.MODEL_UNSUPPORTED: Category.BAD_INPUT,
    ErrorCode.SHAPE_MISSING: Category.BAD_INPUT,
    ErrorCode.DATA_EMPTY: Category.BAD_INPUT,
    ErrorCode.DATA_NOT_FOUND: Category.BAD_INPUT,
    ErrorCode.SAMPLE_UNREADABLE: Category.BAD_INPUT,
    ErrorCode.SAMPLE_NOT_FINITE: Category.BAD_INPUT,
    ErrorCode.PREPROCESS_INVALID: Category.BAD_INPUT,
    ErrorCode.SCALES_INVALID: Category.BAD_INPUT,
    ErrorCode.REPORT_INVALID: Category.BAD_INPUT,
    ErrorCode.PARTIAL_INVALID: Category.BAD_INPUT,
    ErrorCode.SAMPLES_OVERLAP: Category.BAD_INPUT,
    ErrorCode.NUMERICS_MISMATCH: Category.BAD_INPUT,
    ErrorCode.USAGE: Category.BAD_INPUT,
    ErrorCode.JOB_NOT_FOUND: Category.NOT_FOUND,
    ErrorCode.NODE_NOT_FOUND: Category.NOT_FOUND,
    ErrorCode.TOKEN_NOT_FOUND: Category.NOT_FOUND,
    ErrorCode.ARTIFACT_NOT_FOUND: Category.NOT_FOUND,
    ErrorCode.POOL_NOT_FOUND: Category.NOT_FOUND,
    ErrorCode.REPORT_NOT_READY: Category.CONFLICT,
    ErrorCode.JOB_NOT_RETRYABLE: Category.CONFLICT,
    ErrorCode.REQUEST_REUSED: Category.CONFLICT,
    ErrorCode.TARGET_UNSERVABLE: Category.BAD_INPUT,
    ErrorCode.LEASE_STALE: Category.STALE,
    ErrorCode.INCARNATION_STALE: Category.STALE,
    ErrorCode.RESULT_CONFLICT: Category.STALE,
    ErrorCode.NO_CREDENTIALS: Category.UNAUTHENTICATED,
    ErrorCode.CREDENTIALS_INVALID: Category.UNAUTHENTICATED,
    ErrorCode.CSR_INVALID: Category.BAD_INPUT,
    ErrorCode.CERTIFICATE_REQUIRED: Category.UNAUTHENTICATED,
    ErrorCode.CERTIFICATE_FOREIGN: Category.UNAUTHENTICATED,
    ErrorCode.CERTIFICATE_EXPIRED: Category.UNAUTHENTICATED,
    ErrorCode.CERTIFICATE_REVOKED: Category.UNAUTHENTICATED,
    ErrorCode.COORDINATOR_FOREIGN: Category.UNAUTHENTICATED,
    ErrorCode.TOKEN_MALFORMED: Category.BAD_INPUT,
    ErrorCode.TOKEN_UNKNOWN: Category.UNAUTHENTICATED,
    ErrorCode.TOKEN_USED: Category.UNAUTHENTICATED,
    ErrorCode.TOKEN_EXPIRED: Category.UNAUTHENTICATED,
    ErrorCode.ROLE_INSUFFICIENT: Category.REFUSED,
    ErrorCode.WRONG_KIND_OF_CALLER: Category.REFUSED,
    ErrorCode.ARTIFACT_FORBIDDEN: Category.REFUSED,
    ErrorCode.CODE_NOT_ALLOWED: Category.REFUSED,
    ErrorCode.RATE_LIMITED: Category.EXHAUSTED,
    ErrorCode.STORAGE_FULL: Category.EXHAUSTED,
    ErrorCode.DIGEST_MISMATCH: Category.BAD_INPUT,
    ErrorCode.STORE_FAILED: Category.UNREACHABLE,
    ErrorCode.COORDINATOR_UNREACHABLE: Category.UNREACHABLE,
    ErrorCode.ENGINE_MISSING: Category.FAILED,
    ErrorCode.ENGINE_FAILED: Category.FAILED,
    ErrorCode.ENGINE_CRASHED: Category.FAILED,
    ErrorCode.PHONE_LOST: Category.UNREACHABLE,
    ErrorCode.TASK_LOST: Category.FAILED,
    ErrorCode.TASK_CANCELLED: Category.FAILED,
    ErrorCode.JOB_FAILED: Category.FAILED,
    ErrorCode.WORKER_FAILED: Category.FAILED,
    ErrorCode.INTERNAL: Category.INTERNAL,
}


class QuantfleetError(Exception):
    """A failure that a user can read: what happened and where (`what`), and what to do about it (`todo`)."""

    def __init__(self, code: ErrorCode, what: str, todo: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.todo = todo

    @property
    def category(self) -> Category:
        """The category of the catalogue entry."""
        return CATALOGUE[self.code]

    def __str__(self) -> str:
        return f"{self.what} ({self.todo})" if self.todo else self.what

    def __reduce__(self) -> tuple[type["QuantfleetError"], tuple[ErrorCode, str, str]]:
        return QuantfleetError, (self.code, self.what, self.todo)
