"""The serials that were revoked and would be valid otherwise; asked on every call. Not for storing them."""

from collections.abc import Callable, Iterable

from quantfleet_coordinator.enrolment.records import CertificateRecord


class DenyList:
    """Revoked certificates, kept until they expire by themselves. Used from the event loop's thread only.

    `records` are those of the store, of which the revoked ones count.
    """

    def __init__(self, records: Iterable[CertificateRecord] = ()) -> None:
        self._not_after = {record.serial: record.not_after for record in records if record.revoked}
        self._on_revoked: list[Callable[[str], object]] = []

    def on_revoked(self, callback: Callable[[str], object]) -> None:
        """Have `callback` called with each serial revoked from now on, say to end the calls that are live."""
        self._on_revoked.append(callback)

    def is_revoked(self, serial: str) -> bool:
        """Whether the certificate with this serial was revoked."""
        return serial in self._not_after

    def revoke(self, serial: str, not_after: float) -> None:
        """Refuse this certificate from now on. Call it after the store has acknowledged the revocation."""
        self._not_after[serial] = not_after
        for callback in self._on_revoked:
            callback(serial)

    def forget_expired(self, now: float) -> None:
        """Drop what has expired (Unix seconds): the interceptor refuses it without the list."""
        self._not_after = {serial: end for serial, end in self._not_after.items() if end > now}
