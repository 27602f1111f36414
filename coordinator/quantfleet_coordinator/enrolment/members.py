"""Who belongs to the fleet: tokens made and redeemed, certificates renewed and revoked. Not for the rules."""

import time
from collections.abc import Iterable
from dataclasses import replace

from quantfleet_coordinator import nodes
from quantfleet_coordinator.enrolment import tokens
from quantfleet_coordinator.enrolment.authority import Authority
from quantfleet_coordinator.enrolment.denylist import DenyList
from quantfleet_coordinator.enrolment.records import CertificateRecord, TokenRecord
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.store.base import Record
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import Kind, Peer, Role
from quantfleet_wire.join_token import JoinToken


class Members:
    """All tokens and certificates, in memory and in the store; used on the event loop.

    `addresses` are what join tokens tell the new member: (enrolment host:port, main host:port).
    """

    def __init__(self, ledger: Ledger, authority: Authority, denylist: DenyList, addresses: tuple[str, str]) -> None:
        self._ledger = ledger
        self._authority = authority
        self._denylist = denylist
        self._addresses = addresses
        self._tokens: dict[str, TokenRecord] = {}
        self._certificates: dict[str, CertificateRecord] = {}

    def load(self, tokens_: Iterable[TokenRecord], certificates: Iterable[CertificateRecord]) -> None:
        """Take what the store has."""
        self._tokens = {record.id: record for record in tokens_}
        self._certificates = {record.serial: record for record in certificates}

    @property
    def trust_bundle(self) -> bytes:
        """The authorities that members trust, PEM."""
        return self._authority.bundle_pem

    @property
    def fleet(self) -> str:
        """The name of the fleet."""
        return self._authority.fleet

    async def create_token(
        self, actor: str, purpose: Kind, name: str, role: Role | None, ttl_s: float
    ) -> tuple[TokenRecord, str]:
        """A token, and the one opaque string that redeems it. Raises USAGE."""
        record, secret = tokens.create(purpose, name, role, time.time(), ttl_s)
        opaque = JoinToken(purpose, *self._addresses, record.id, secret, self._authority.bundle_pem).encode()
        await self._ledger.record(record, self._ledger.audited(actor, "token.create", f"{purpose}/{name}"))
        self._tokens[record.id] = record
        return record, opaque

    def tokens(self) -> list[TokenRecord]:
        """All tokens, newest first."""
        return sorted(self._tokens.values(), key=lambda record: -record.created_at)

    async def revoke_token(self, actor: str, token_id: str) -> None:
        """Make a token useless. Raises TOKEN_NOT_FOUND."""
        record = self._tokens.get(token_id)
        if record is None:
            raise QuantfleetError(
                ErrorCode.TOKEN_NOT_FOUND, f"no token has the id {token_id!r}", "see them: quantfleet token list"
            )
        self._tokens[token_id] = replace(record, revoked=True)
        await self._ledger.record(self._tokens[token_id], self._ledger.audited(actor, "token.revoke", token_id))

    async def join(self, token_id: str, secret: bytes, csr: bytes) -> tuple[TokenRecord, bytes]:
        """Redeem a token: the certificate is issued and the token burnt in one transaction.

        Joining again under a name revokes the certificates that it had. Raises as `tokens.redeem` does.
        """
        redeemed = tokens.redeem(self._tokens.get(token_id), secret, csr, time.time(), self._authority)
        if redeemed.certificate is None:
            await self._ledger.record()  # the first answer may not be durable yet
            return redeemed.token, redeemed.certificate_pem
        token = redeemed.token
        former = self._valid(token.purpose, token.name)
        self._tokens[token.id] = token
        self._certificates[redeemed.certificate.serial] = redeemed.certificate
        records: list[Record] = [token, redeemed.certificate, *self._revoked(former)]
        if token.purpose == "node":
            records += self._ledger.lose_all(token.name, "its node joined again")
            records.append(self._ledger.nodes.enrol(token.name))
        subject = f"{token.purpose}/{token.name}"
        await self._ledger.record(*records, self._ledger.audited(subject, "member.join", redeemed.certificate.serial))
        self._deny(former)
        return token, redeemed.certificate_pem

    async def renew(self, peer: Peer, csr: bytes) -> bytes:
        """A new certificate for a node that still has a valid one; the old one ends by itself.

        Raises CERTIFICATE_REVOKED for one whose revocation is on its way to the store: it must not outlive it so.
        """
        known = self._certificates.get(peer.serial)
        if known is not None and known.revoked:
            what, todo = f"the certificate of {peer.name!r} is revoked", "join again with a new token"
            raise QuantfleetError(ErrorCode.CERTIFICATE_REVOKED, what, todo)
        issued = self._authority.issue_node(csr, peer.name)
        self._certificates[issued.record.serial] = issued.record
        audited = self._ledger.audited(f"node/{peer.name}", "certificate.renew", issued.record.serial)
        await self._ledger.record(issued.record, audited)
        return issued.certificate_pem

    async def adopt(self, certificate: CertificateRecord) -> None:
        """Remember a certificate that was issued outside a token: the first admin's."""
        self._certificates[certificate.serial] = certificate
        audited = self._ledger.audited("coordinator", "member.first-admin", f"user/{certificate.name}")
        await self._ledger.record(certificate, audited)

    async def revoke(self, actor: str, kind: Kind, name: str) -> int:
        """Expel a member: its certificates are refused from now on, live calls included. How many there were.

        Raises NODE_NOT_FOUND for a node or user that holds no valid certificate.
        """
        found = self._valid(kind, name)
        if not found:
            raise QuantfleetError(
                ErrorCode.NODE_NOT_FOUND, f"no {kind} {name!r} holds a valid certificate", f"see them: {kind} list"
            )
        records: list[Record] = list(self._revoked(found))
        if kind == "node":
            records.append(self._ledger.nodes.stand(name, nodes.REVOKED))
        await self._ledger.record(*records, self._ledger.audited(actor, f"{kind}.revoke", name))
        self._deny(found)
        return len(found)

    def users(self) -> list[CertificateRecord]:
        """The newest certificate of every user, by name."""
        newest: dict[str, CertificateRecord] = {}
        for record in sorted(self._certificates.values(), key=lambda record: record.not_after):
            if record.kind == "user":
                newest[record.name] = record
        return [newest[name] for name in sorted(newest)]

    def _valid(self, kind: Kind, name: str) -> list[CertificateRecord]:
        now = time.time()
        return [
            record
            for record in self._certificates.values()
            if (record.kind, record.name) == (kind, name) and not record.revoked and record.not_after > now
        ]

    def _revoked(self, records: Iterable[CertificateRecord]) -> list[CertificateRecord]:
        revoked = [replace(record, revoked=True) for record in records]
        self._certificates.update({record.serial: record for record in revoked})
        return revoked

    def _deny(self, records: Iterable[CertificateRecord]) -> None:
        for record in records:
            self._denylist.revoke(record.serial, record.not_after)
