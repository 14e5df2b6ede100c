"""SMART Backend Services: another system shows that it holds its private key, and gets a token for five minutes.

Source: SMART App Launch 2.2, "Backend Services" and "Asymmetric client authentication"; RFC 6749, 7523. The token is
an opaque one like every other here (`hub.accounts`); its scope narrows the role of the client's account. There is no
sign-in for people here, and no authorization endpoint.
"""

import hashlib
import json
import time
from base64 import urlsafe_b64decode
from datetime import timedelta
from typing import Any, cast

from fastapi import FastAPI
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fhir.outcome import refuse
from hub import accounts, audit, clients, scopes
from hub.db import Database, Tx
from hub.fhir_http import base_of
from hub.identity import Actor, account_actor
from hub.runtime import Runtime

TOKEN_PATH = "/oauth/token"  # noqa: S105 (an address)
CONFIGURATION = "/.well-known/smart-configuration"
ALGORITHMS = ["RS384", "ES384"]
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME = timedelta(minutes=5)
"""Of a token, and the longest that an assertion may have before it."""
LEEWAY = 30
"""Seconds that the clock of a client may be ahead or behind."""
MOST_KEYS = 10
RSA_BITS = 2048


class Refused(Exception):
    """An error of RFC 6749, 5.2: its code, and words that tell a developer what to change."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.code, self.words, self.status = code, words, status


def _unknown_client() -> Refused:
    # The same words whatever was wrong: which clients there are, and which keys they have, is nobody's business.
    return Refused("invalid_client", "The client is not known, or its assertion does not hold.", 401)


def key_set(keys: Any) -> KeySet:
    """The public keys of a client. Refusal 422 unless *keys* is a JWKS of RSA or P-384 keys, each with its `kid`."""
    if not isinstance(keys, dict) or not isinstance(keys.get("keys"), list) or not 0 < len(keys["keys"]) <= MOST_KEYS:
        raise refuse(422, "structure", f"A JWKS is wanted: an object with 1 to {MOST_KEYS} keys.", "keys")
    for number, one in enumerate(keys["keys"]):
        at = f"keys[{number}]"
        if not isinstance(one, dict) or not isinstance(one.get("kid"), str):
            raise refuse(422, "required", "Every key needs a kid.", f"{at}.kid")
        if {"d", "p", "q", "k"} & one.keys():
            raise refuse(422, "security", "This is a private key. Keep it, and send the public part.", at)
        if one.get("kty") not in ("RSA", "EC") or (one["kty"] == "EC" and one.get("crv") != "P-384"):
            raise refuse(422, "value", "RSA keys and keys on P-384 are taken.", f"{at}.kty")
        if one["kty"] == "RSA" and _bits(one.get("n")) < RSA_BITS:
            raise refuse(422, "value", f"An RSA key needs at least {RSA_BITS} bits.", f"{at}.n")
    try:
        found = KeySet.import_key_set(cast(Any, keys))
    except (JoseError, ValueError) as error:
        raise refuse(422, "structure", f"The keys cannot be read: {error}.", "keys") from error
    if len({key.kid for key in found.keys}) < len(found.keys):
        raise refuse(422, "duplicate", "Two keys have one kid.", "keys")
    return found


def _bits(modulus: Any) -> int:
    try:
        return int.from_bytes(urlsafe_b64decode(str(modulus) + "==")).bit_length()
    except ValueError:
        return 0


async def register(tx: Tx, username: str, keys: Any) -> str:
    """Let the system with this account sign in with *keys* (a JWKS); those it had are replaced. Its client id."""
    key_set(keys)
    return await clients.give_keys(tx, username, keys)


async def issue(database: Database, form: dict[str, str], token_url: str) -> dict[str, Any]:
    """The answer of the token endpoint to *form*. Raises Refused."""
    if form.get("grant_type") != "client_credentials":
        raise Refused("unsupported_grant_type", "grant_type must be client_credentials.")
    if form.get("client_assertion_type") != BEARER:
        raise Refused("invalid_request", f"client_assertion_type must be {BEARER}.")
    assertion = form.get("client_assertion", "")
    try:
        asked = scopes.parse(form.get("scope", ""))
    except scopes.Unknown as error:
        raise Refused("invalid_scope", str(error)) from None
    async with database.transaction() as tx:
        client_id = _claimed(assertion)
        found = await clients.find(tx.pg, client_id)
        if found is None:
            raise _unknown_client()
        actor, keys = account_actor(*found[:6]), found[6]
        claims = _verified(assertion, keys, client_id, token_url)
        if not await clients.first_use(tx.pg, client_id, _digest(claims["jti"]), claims["exp"] + LEEWAY):
            raise _unknown_client()
        scope = _granted(asked, actor)
        token = await accounts.issue_scoped(tx, actor, str(scope), LIFETIME)
    return {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": int(LIFETIME.total_seconds()),
        "scope": str(scope),
    }


def _granted(asked: scopes.Scope, actor: Actor) -> scopes.Scope:
    try:
        return scopes.granted(asked, actor.role)
    except scopes.Unknown as error:
        raise Refused("invalid_scope", str(error)) from None


def _claimed(assertion: str) -> str:
    """Who the assertion says it is of. Nothing of it is believed before its signature is checked."""
    try:
        claims = json.loads(jws.extract_compact(assertion.encode()).payload)
    except (JoseError, ValueError):
        raise _unknown_client() from None
    claimed = claims.get("iss") if isinstance(claims, dict) else None
    if not isinstance(claimed, str):
        raise _unknown_client()
    return claimed


def _verified(assertion: str, keys: Any, client_id: str, token_url: str) -> dict[str, Any]:
    """The claims, once signature, client, address, age and uniqueness of their id are checked."""
    rules = JWTClaimsRegistry(
        leeway=LEEWAY,
        iss={"essential": True, "value": client_id},
        sub={"essential": True, "value": client_id},
        aud={"essential": True, "value": token_url},
        exp={"essential": True},
        jti={"essential": True},
    )
    try:
        token = jwt.decode(assertion, key_set(keys), algorithms=ALGORITHMS)
        rules.validate(token.claims)
    except (JoseError, ValueError):
        raise _unknown_client() from None
    claims = token.claims
    longest = time.time() + LIFETIME.total_seconds() + LEEWAY
    if "kid" not in token.header or not isinstance(claims["jti"], str) or claims["exp"] > longest:
        raise _unknown_client()
    return claims


def _digest(jti: str) -> bytes:
    return hashlib.sha256(jti.encode("utf-8", "surrogatepass")).digest()


async def _token(request: Request) -> Response:
    runtime: Runtime = request.app.state.runtime
    async with request.form(max_files=0, max_fields=20) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        return JSONResponse(await issue(runtime.database, fields, _asked(request)), headers=_NO_STORE)
    except Refused as refused:
        async with runtime.database.transaction() as tx:
            detail = {"error": refused.code}
            await audit.record(tx.pg, [audit.Entry("unknown", "unknown", "token", outcome="refused", detail=detail)])
        body = {"error": refused.code, "error_description": refused.words}
        return JSONResponse(body, refused.status, _NO_STORE)


_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def token_url(base_url: str) -> str:
    """Where tokens are issued, beside `/fhir` at *base_url*."""
    return base_url.removesuffix("/fhir") + TOKEN_PATH


def _asked(request: Request) -> str:
    return token_url(base_of(request.app.state.runtime.settings.base_url, request))


async def _configuration(request: Request) -> Response:
    """What a client of SMART Backend Services asks first; needs no sign-in."""
    return JSONResponse(
        {
            "token_endpoint": _asked(request),
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": ["system/*.rs", "system/*.cruds", "system/*.read", "system/*.write"],
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
        }
    )


def add_routes(app: FastAPI) -> None:
    """Put the endpoints on *app*, before the routes of `/fhir`."""
    app.add_route(TOKEN_PATH, _token, methods=["POST"], include_in_schema=False)
    for path in (CONFIGURATION, f"/fhir{CONFIGURATION}"):
        app.add_route(path, _configuration, methods=["GET"], include_in_schema=False)
