"""How often one address may try to join: a token bucket each. Not for the calls of those who have a certificate."""

import ipaddress
from collections import OrderedDict
from typing import Final
from urllib.parse import unquote

from quantfleet_domain.errors import ErrorCode, QuantfleetError

# A host owns a whole IPv6 network of this size, so it counts as one address.
_IPV6_PREFIX: Final = 64
_ADDRESSES: Final = 10_000


class RateLimit:
    """Lets an address try `burst` times at once and `per_minute` times a minute in the long run.

    Remembers the 10,000 addresses that tried last. Used from one thread; the clock (seconds) is passed in.
    """

    def __init__(self, per_minute: float = 10.0, burst: int = 10) -> None:
        self._per_s = per_minute / 60.0
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, peer: str, now: float) -> None:
        """Count one try of `peer` (as `context.peer()` writes it); RATE_LIMITED when there were too many."""
        address = address_of(peer)
        left, at = self._buckets.pop(address, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        allowed = left >= 1.0
        self._buckets[address] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = (1.0 - left) / self._per_s
            raise QuantfleetError(
                ErrorCode.RATE_LIMITED, f"too many attempts to join from {address}", f"try again in {wait_s:.0f} s"
            )


def address_of(peer: str) -> str:
    """The host of a gRPC peer (`ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`), an IPv6 one as its /64 network."""
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind == "ipv6":
        return str(ipaddress.ip_network((host.partition("%")[0], _IPV6_PREFIX), strict=False))
    return host or peer
