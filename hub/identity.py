"""Who asks: the Actor of a request, found from its bearer token, device key or session cookie.

Secrets are 256 random bits and are kept as SHA-256 only, so a look-up by hash tells a guesser nothing, not even by its
timing. Tokens and device keys are remembered for `WHILE_TOLD` seconds by a process that hears from the database when
one ends (`forget`), and for `REMEMBERED` by one that does not: a revocation takes effect at once, or within that.
Sessions are looked up every time, so sign-out takes effect at once.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

from fhir.outcome import Refusal, refuse
from hub import hearing
from hub.db import Database
from hub.gathering import Gathering
from hub.roles import PERMISSIONS, ROLES
from hub.scopes import Scope, parse

SESSION_COOKIE = "carehub_session"
TOKEN_PREFIX = "cht_"  # noqa: S105 (what tokens begin with, so that scanners of leaked secrets find them)
DEVICE_PREFIX = "chd_"

SANDBOX_PERSON = "sandbox-person"
"""Id of the made-up Patient for whom every sandbox key of a device may send."""

REMEMBERED = 2.0
WHILE_TOLD = 60.0
MOST_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. Every flow, query and audit row has one.

    `kind` is user, device, system or patient (patients and carers). `reference` is what records are signed with, such
    as `Practitioner/x`. `subjects` are the references by which rows of `access` match: the actor's own and those of
    the organisations they work for. `csrf` is set for sessions of the web pages only. `scope` narrows what the role
    allows, for a token that was asked for so. What comes with a `sandbox` key of a device is a test.
    """

    kind: str
    id: str
    name: str
    role: str
    reference: str
    subjects: tuple[str, ...]
    hub_id: str | None = None
    csrf: str | None = None
    scope: Scope | None = None
    sandbox: bool = False

    def can(self, permission: str) -> bool:
        """Whether the actor's role owns *permission*, one of `hub.roles.PERMISSIONS` (KeyError for any other word)."""
        PERMISSIONS[permission]
        role = ROLES.get(self.role)
        return role is not None and permission in role.permissions


ENGINE = Actor(
    kind="system",
    id="care-hub-engine",
    name="Care Hub",
    role="engine",
    reference="Device/care-hub-engine",
    subjects=("Device/care-hub-engine",),
)

IMPORTER = Actor(
    kind="system",
    id="care-hub-import",
    name="Care Hub import",
    role="importer",
    reference="Device/care-hub-import",
    subjects=("Device/care-hub-import",),
)

# Whoever runs `carehub` on the machine itself.
OPERATOR = Actor(
    kind="system",
    id="care-hub-cli",
    name="Operator of this server",
    role="administrator",
    reference="Device/care-hub-cli",
    subjects=("Device/care-hub-cli",),
)


def new_secret(prefix: str = "") -> str:
    """256 random bits in URL-safe letters after *prefix*."""
    return prefix + secrets.token_urlsafe(32)


def fingerprint(secret: str) -> bytes:
    """What the database keeps of a secret. Random secrets need no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def authenticate(headers: Mapping[str, str], cookies: Mapping[str, str], database: Database) -> Actor:
    """The actor of a request with these *headers* (names in lower case) and *cookies*.

    A request that brings an Authorization header is judged by it alone. Raises Refusal 401 when there is no valid
    credential: none, unknown, expired, revoked, or of an account that was closed.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip()
        if scheme.lower() == "bearer" and secret.startswith((TOKEN_PREFIX, DEVICE_PREFIX)):
            actor = await _door(database).by_credential(fingerprint(secret))
            if actor is not None:
                return actor
        raise _unknown('Bearer realm="Care Hub", error="invalid_token"')
    cookie = cookies.get(SESSION_COOKIE)
    actor = await _door(database).by_session(fingerprint(cookie)) if cookie else None
    if actor is None:
        raise _unknown('Bearer realm="Care Hub"')
    return actor


def account_actor(
    account_id: str,
    name: str,
    role: str,
    reference: str,
    organisations: list[str],
    hub_id: str | None,
    csrf: str | None = None,
    scope: str | None = None,
) -> Actor:
    """The actor that a row of `account` acts as; *scope* is one that was granted."""
    kind = {"patient": "patient", "carer": "patient", "ehr-system": "system"}.get(role, "user")
    subjects = (reference,) if kind == "patient" else (reference, *organisations)
    narrowed = parse(scope) if scope is not None else None
    return Actor(kind, account_id, name, role, reference, subjects, hub_id, csrf, narrowed)


def _unknown(challenge: str) -> Refusal:
    refusal = refuse(401, "login", "Sign in, or send a valid bearer token or device key.")
    refusal.headers["WWW-Authenticate"] = challenge
    return refusal


_BY_CREDENTIAL = """
SELECT credential.hash, coalesce(extract(epoch FROM credential.expires - now())::float8, 'infinity'), credential.kind,
       device.id, device.name, account.id, account.name, account.role, account.reference, account.organisations,
       account.hub_id, NULL, credential.scope, credential.sandbox
FROM credential
LEFT JOIN device ON credential.kind = 'device' AND device.id = credential.device_id
LEFT JOIN account ON credential.kind = 'token' AND account.id = credential.account_id AND account.active
WHERE credential.hash = ANY(%s) AND credential.revoked IS NULL
  AND (credential.expires IS NULL OR credential.expires > now())
"""
_BY_SESSION = """
SELECT session.hash, account.id, account.name, account.role, account.reference, account.organisations, account.hub_id,
       session.csrf
FROM session JOIN account ON account.id = session.account_id AND account.active
WHERE session.hash = ANY(%s) AND session.expires > now()
"""


Known = tuple[Actor, float]
"""Whose a credential is, and for how many seconds more it is valid."""


class _Door:
    """Looks up credentials for all requests that wait at once, in one query."""

    def __init__(self, database: Database) -> None:
        self._remembered: dict[bytes, tuple[float, Actor]] = {}
        self._lasting = REMEMBERED
        self._forgotten = 0
        self._credentials: Gathering[bytes, Known | None] = Gathering(self._load_credentials, max_batch=1000)
        self._sessions: Gathering[bytes, Actor | None] = Gathering(self._load_sessions, max_batch=1000)
        self._hearing = hearing.of(database)
        self._database = ref(database)  # `_doors` must be able to let go of the database

    async def by_credential(self, hash_: bytes) -> Actor | None:
        known = self._remembered.get(hash_)
        if known is not None and known[0] > time.monotonic():
            self._hearing.key(hash_)
            return known[1]
        before = self._forgotten
        found = await self._credentials.submit(hash_)
        if found is None:
            return None
        actor, left = found
        self._hearing.key(hash_)
        if before == self._forgotten:  # else it may have ended since it was looked at
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[hash_] = (time.monotonic() + min(self._lasting, left), actor)
        return actor

    def forget(self, listening: bool) -> None:
        self._forgotten += 1
        self._remembered.clear()
        self._lasting = WHILE_TOLD if listening else REMEMBERED

    async def by_session(self, hash_: bytes) -> Actor | None:
        return await self._sessions.submit(hash_)

    async def _load_credentials(self, hashes: list[bytes]) -> list[Known | None]:
        found: dict[bytes, Known] = {}
        for hash_, left, kind, device_id, device_name, *account, sandbox in await self._rows(_BY_CREDENTIAL, hashes):
            if kind == "device" and device_id is not None:
                reference = f"Device/{device_id}"
                actor = Actor("device", device_id, device_name, "device", reference, (reference,), sandbox=sandbox)
                found[bytes(hash_)] = actor, left
            elif kind == "token" and account[0] is not None:
                found[bytes(hash_)] = account_actor(*account), left
        return [found.get(hash_) for hash_ in hashes]

    async def _load_sessions(self, hashes: list[bytes]) -> list[Actor | None]:
        rows = await self._rows(_BY_SESSION, hashes)
        found = {bytes(hash_): account_actor(*account) for hash_, *account in rows}
        return [found.get(hash_) for hash_ in hashes]

    async def _rows(self, query: str, hashes: list[bytes]) -> list[tuple[Any, ...]]:
        database = self._database()
        assert database is not None, "whoever waits for the answer holds the database"
        async with database.reading() as pg:
            return await (await pg.execute(query, (hashes,))).fetchall()


def forget(database: Database, listening: bool) -> None:
    """A credential has ended, or an account was changed: look again. *listening*: the next time will be told, too."""
    _door(database).forget(listening)


_doors: WeakKeyDictionary[Database, _Door] = WeakKeyDictionary()


def _door(database: Database) -> _Door:
    door = _doors.get(database)
    if door is None:
        door = _doors[database] = _Door(database)
    return door
