"""SMART Backend Services: who holds the private key gets a token for each assertion, and no more than it asked for."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from rest import Caller, Fresh, Rest, running

from fhir.outcome import Refusal
from fhir.store import new_id
from hub import accounts, identity, oauth

TOKEN = "http://127.0.0.1/oauth/token"
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
# The modulus of a key of 1024 bits.
SHORT = b64encode(b"\xc1" + b"\x01" * 127, b"-_").rstrip(b"=").decode()
ELLIPTIC = ECKey.generate_key("P-384", {"kid": "two", "use": "sig"})


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


@pytest.fixture(scope="module")
async def client_id(rest: Rest) -> str:
    return await client(rest, KEY, ELLIPTIC)


async def client(rest: Rest, *keys: RSAKey | ECKey) -> str:
    async with rest.database.transaction() as tx:
        name = new_id()
        await accounts.create_account(tx, name, "demonstration", "Hospital", "ehr-system", "Device/ehr")
        return await oauth.register(tx, name, {"keys": [key.as_dict(private=False) for key in keys]})


def assertion(client_id: str, key: Any = KEY, alg: str = "RS384", header: Any = None, **claims: Any) -> str:
    said = {"iss": client_id, "sub": client_id, "aud": TOKEN, "exp": int(time.time()) + 240, "jti": new_id()} | claims
    made = {"alg": alg, "kid": key.kid} | (header or {})
    return jwt.encode({k: v for k, v in made.items() if v}, {k: v for k, v in said.items() if v}, key, algorithms=[alg])


async def ask(rest: Rest, said: str, scope: str = "system/*.rs", **form: str) -> Any:
    sent = {
        "grant_type": "client_credentials",
        "client_assertion_type": oauth.BEARER,
        "client_assertion": said,
        "scope": scope,
    }
    return await rest.client.post("/oauth/token", data=sent | form)


async def caller(rest: Rest, client_id: str, scope: str) -> Caller:
    return Caller(rest.client, (await ask(rest, assertion(client_id), scope)).json()["access_token"])


@pytest.mark.parametrize(("key", "alg"), [(KEY, "RS384"), (ELLIPTIC, "ES384")])
async def test_a_system_gets_a_token_and_reads(rest: Rest, client_id: str, key: Any, alg: str) -> None:
    answer = await ask(rest, assertion(client_id, key, alg), "system/Patient.rs")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert (said["token_type"], said["expires_in"], said["scope"]) == ("bearer", 300, "system/Patient.rs")
    patient = await rest.patient()
    reader = Caller(rest.client, said["access_token"])
    assert (await reader("GET", f"/Patient/{patient}")).status_code == 200


async def answered(asker: Caller, path: str, status: int) -> bool:
    """Whether *path* is answered with *status* within five seconds: a word of the database takes a moment."""
    for _ in range(250):
        if (await asker("GET", path)).status_code == status:
            return True
        await asyncio.sleep(0.02)
    return False


FALSE = {
    "another's key": lambda id_: assertion(id_, RSAKey.generate_key(2048, {"kid": "one"})),
    "a key that is not registered": lambda id_: assertion(id_, RSAKey.generate_key(2048, {"kid": "three"})),
    "no kid": lambda id_: assertion(id_, header={"kid": None}),
    "a shared secret": lambda id_: assertion(id_, OctKey.import_key("x" * 64, {"kid": "one"}), "HS384"),
    "another algorithm": lambda id_: assertion(id_, alg="RS256"),
    "no signature": lambda id_: assertion(id_).rpartition(".")[0] + ".",
    "an algorithm of none": lambda id_: "eyJhbGciOiJub25lIn0." + assertion(id_).split(".")[1] + ".",
    "another address": lambda id_: assertion(id_, aud="https://other.example/oauth/token"),
    "no address": lambda id_: assertion(id_, aud=None),
    "run out": lambda id_: assertion(id_, exp=int(time.time()) - 60),
    "too long": lambda id_: assertion(id_, exp=int(time.time()) + 3600),
    "without an end": lambda id_: assertion(id_, exp=None),
    "not yet": lambda id_: assertion(id_, nbf=int(time.time()) + 120),
    "no id": lambda id_: assertion(id_, jti=None),
    "another subject": lambda id_: assertion(id_, sub="somebody"),
    "unknown client": lambda _: assertion("nobody"),
    "nonsense": lambda _: "x.y.z",
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("what", FALSE)
async def test_a_false_assertion_is_refused_with_the_same_words(rest: Rest, client_id: str, what: str) -> None:
    answer = await ask(rest, FALSE[what](client_id))
    assert answer.status_code == 401
    said = answer.json()
    assert said["error"] == "invalid_client"
    assert said == (await ask(rest, "x")).json()


async def test_an_assertion_is_good_for_one_token(rest: Rest, client_id: str) -> None:
    said = assertion(client_id)
    assert [(await ask(rest, said)).status_code for _ in range(2)] == [200, 401]


async def test_what_is_asked_wrongly_is_said(rest: Rest, client_id: str) -> None:
    for form, error in (
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_assertion_type": "x"}, "invalid_request"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "system/AuditEvent.cud"}, "invalid_scope"),
    ):
        answer = await ask(rest, assertion(client_id), **form)
        assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_closed_account_gets_nothing(rest: Rest) -> None:
    closed = await client(rest, KEY)
    token = (await ask(rest, assertion(closed))).json()["access_token"]
    await rest.rows("UPDATE account SET active = false WHERE id = %s RETURNING id", closed)
    assert (await ask(rest, assertion(closed))).status_code == 401
    assert (await rest.client.get("/fhir/Patient", headers={"authorization": f"Bearer {token}"})).status_code == 401


async def test_a_scope_holds_on_every_way_to_the_record(rest: Rest, client_id: str) -> None:
    """Threat: a token for one type is used for others, directly or through what leads to them."""
    patient = await rest.patient()
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"},
    }
    made = (await rest.system("POST", "/Observation", observation)).json()["id"]
    reader = await caller(rest, client_id, "system/Patient.rs")
    for path in (
        f"/Observation/{made}",
        f"/Observation/{made}/_history",
        f"/Observation/{made}/_history/1",
        f"/Observation?patient={patient}",
        f"/Patient/{patient}/Observation",
        f"/Observation/$lastn?patient={patient}&code=x",
    ):
        answer = await reader("GET", path)
        assert answer.status_code in (400, 403, 404), path
        assert made not in answer.text, path
    for path in (
        f"/Patient?_id={patient}&_revinclude=Observation:patient",
        f"/Patient/{patient}/$everything",
        f"/Patient/{patient}/*",
        "/_history?_count=50",
    ):
        answer = await reader("GET", path)
        assert answer.status_code < 500, path
        assert made not in answer.text, path
    found = await reader("GET", f"/Patient?_has:Observation:patient:status=final&_id={patient}&_total=accurate")
    assert found.json()["total"] == 0
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": f"Observation/{made}"}}],
    }
    assert made not in (await reader("POST", "", bundle)).text


async def test_a_scope_holds_on_every_way_to_write(rest: Rest, client_id: str) -> None:
    patient = await rest.patient()
    resource = {
        "resourceType": "Condition",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"},
    }
    creator = await caller(rest, client_id, "system/Condition.crs")
    made = (await creator("POST", "/Condition", resource)).json()
    changed = made | {"code": {"text": "y"}}
    assert (await creator("PUT", f"/Condition/{made['id']}", changed)).status_code == 403
    assert (await creator("DELETE", f"/Condition/{made['id']}")).status_code == 403
    entry = {"resource": changed, "request": {"method": "PUT", "url": f"Condition/{made['id']}"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert (await creator("POST", "", bundle)).status_code == 403
    reader = await caller(rest, client_id, "system/*.rs")
    assert (await reader("POST", "/Condition", resource)).status_code == 403


async def test_an_export_keeps_the_scope_it_was_asked_for_with(rest: Rest, client_id: str) -> None:
    reader = await caller(rest, client_id, "system/Patient.rs")
    answer = await reader("GET", "/$export", headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    scopes = await rest.rows("SELECT scope FROM job ORDER BY created DESC LIMIT 1")
    assert scopes == [("system/Patient.rs",)]


async def test_a_scope_reaches_no_job_of_a_wider_token(rest: Rest, client_id: str) -> None:
    """Threat: the files of an export of everything are fetched with a token for one type."""
    wide = await caller(rest, client_id, "system/*.rs")
    asked = await wide("GET", "/$export", headers={"prefer": "respond-async"})
    job = "/$job/" + asked.headers["content-location"].rpartition("/")[2]
    narrow = await caller(rest, client_id, "system/Patient.rs")
    assert (await narrow("GET", job)).status_code == 404
    again = await caller(rest, client_id, "system/*.rs")
    assert (await again("GET", job)).status_code in (200, 202)


async def test_the_configuration_says_what_is_true(rest: Rest) -> None:
    for path in ("/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration"):
        said = (await rest.client.get(path)).json()
        assert said["token_endpoint"] == TOKEN
        assert said["grant_types_supported"] == ["client_credentials"]
    security = (await rest.nobody("GET", "/metadata")).json()["rest"][0]["security"]
    assert security["extension"][0]["extension"] == [{"url": "token", "valueUri": TOKEN}]


@pytest.mark.parametrize(
    "keys",
    [
        None,
        {"keys": []},
        {"keys": [{"kty": "RSA"}]},
        {"keys": [KEY.as_dict(private=True)]},
        {"keys": [{"kty": "RSA", "kid": "short", "e": "AQAB", "n": SHORT}]},
        {"keys": [ECKey.generate_key("P-256", {"kid": "curve"}).as_dict(private=False)]},
        {"keys": [KEY.as_dict(private=False), KEY.as_dict(private=False)]},
        {"keys": [{"kty": "oct", "k": "eHg", "kid": "secret"}]},
    ],
)
def test_keys_that_are_not_taken(keys: Any) -> None:
    with pytest.raises(Refusal):
        oauth.key_set(keys)


async def test_a_key_that_is_remembered_ends_at_once_whoever_ends_it(rest: Rest) -> None:
    """Threat: a stolen key goes on being good because a process remembers it."""
    assert identity.WHILE_TOLD > 10
    patient = await rest.patient()
    device = await rest.device(patient)
    for statement in (
        "UPDATE credential SET revoked = now() WHERE device_id = %s RETURNING 1",
        "UPDATE credential SET revoked = NULL WHERE device_id = %s RETURNING 1",
        "DELETE FROM device WHERE id = %s RETURNING 1",
    ):
        wanted = 401 if "NULL" not in statement else 200
        await rest.rows(statement, device.id)
        assert await answered(device, f"/Device/{device.id}", wanted)


async def test_a_token_is_not_remembered_beyond_its_end(rest: Rest, client_id: str) -> None:
    reader = await caller(rest, client_id, "system/Patient.rs")
    assert (await reader("GET", "/Patient?_count=0")).status_code == 200
    await rest.rows(
        "UPDATE credential SET expires = now() + interval '0.3 s' WHERE account_id = %s RETURNING 1", client_id
    )
    assert await answered(reader, "/Patient?_count=0", 401)
