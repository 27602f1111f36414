"""Too many attempts are refused for one address alone, and a revoked serial stays refused until it expires."""

import pytest

from quantfleet_coordinator.enrolment.denylist import DenyList
from quantfleet_coordinator.enrolment.ratelimit import RateLimit, address_of
from quantfleet_coordinator.enrolment.records import CertificateRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError


def test_a_burst_is_allowed_and_then_one_try_at_a_time() -> None:
    limit = RateLimit(per_minute=60.0, burst=3)
    for _ in range(3):
        limit.check("ipv4:10.0.0.1:5000", 100.0)
    with pytest.raises(QuantfleetError, match=r"10\.0\.0\.1.*try again in 1 s") as caught:
        limit.check("ipv4:10.0.0.1:5001", 100.0)
    assert caught.value.code is ErrorCode.RATE_LIMITED
    limit.check("ipv4:10.0.0.2:5000", 100.0)
    limit.check("ipv4:10.0.0.1:5002", 101.0)
    with pytest.raises(QuantfleetError):
        limit.check("ipv4:10.0.0.1:5003", 101.5)


def test_hosts_of_one_ipv6_network_share_their_tries() -> None:
    assert address_of("ipv6:%5B2001:db8::1%5D:5000") == address_of("ipv6:[2001:db8::2]:6000")
    assert address_of("ipv6:[2001:db8:0:1::1]:5000") != address_of("ipv6:[2001:db8::1]:5000")
    assert address_of("ipv6:[fe80::1%25eth0]:5000") == "fe80::/64"
    assert address_of("unix:") == "unix:"


def test_many_strangers_do_not_fill_the_memory() -> None:
    limit = RateLimit(per_minute=1.0, burst=1)
    for index in range(20_000):
        limit.check(f"ipv4:10.{index >> 16}.{index >> 8 & 255}.{index & 255}:1", 0.0)
    with pytest.raises(QuantfleetError):
        limit.check("ipv4:10.0.78.31:2", 0.0)  # the last of them is still remembered


def test_revoked_records_are_refused_until_they_expire() -> None:
    records = [
        CertificateRecord("aa", "node", "t4-01", "", 100.0, revoked=True),
        CertificateRecord("bb", "node", "t4-02", "", 100.0),
    ]
    denylist = DenyList(records)
    assert denylist.is_revoked("aa")
    assert not denylist.is_revoked("bb")
    told: list[tuple[str, bool]] = []
    denylist.on_revoked(lambda serial: told.append((serial, denylist.is_revoked(serial))))
    denylist.revoke("bb", 200.0)
    assert told == [("bb", True)]
    denylist.forget_expired(150.0)
    assert not denylist.is_revoked("aa")
    assert denylist.is_revoked("bb")
