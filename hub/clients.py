"""Other systems that sign in with a key of their own: which keys, and what they have said already (see `hub.oauth`)."""

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fhir.outcome import refuse
from hub import audit
from hub.accounts import normalised
from hub.db import Tx
from hub.identity import OPERATOR, Actor


async def give_keys(tx: Tx, username: str, keys: Any, by: Actor = OPERATOR) -> str:
    """The public keys (a JWKS) with which a system signs in; those it had are replaced. Its client id. Refusal 404."""
    row = await (
        await tx.pg.execute("SELECT id FROM account WHERE username = %s AND active", (normalised(username),))
    ).fetchone()
    if row is None:
        raise refuse(404, "not-found", f"There is no account {username!r}.")
    await tx.pg.execute(
        "INSERT INTO client (account_id, keys) VALUES (%s, %s)"
        " ON CONFLICT (account_id) DO UPDATE SET keys = excluded.keys, since = now()",
        (row[0], Jsonb(keys)),
    )
    named = [one["kid"] for one in keys["keys"]]
    await audit.record(tx.pg, [audit.entry(by, "client-keys-given", detail={"account": row[0], "keys": named})])
    client_id: str = row[0]
    return client_id


async def find(pg: psycopg.AsyncConnection[Any], client_id: str) -> tuple[Any, ...] | None:
    """The columns of `identity.account_actor`, and the keys, of an account that is open and may sign in with keys."""
    rows = await pg.execute(
        "SELECT id, name, role, reference, organisations, hub_id, keys FROM client"
        " JOIN account ON account.id = client.account_id AND account.active WHERE account_id = %s",
        (client_id,),
    )
    return await rows.fetchone()


async def first_use(pg: psycopg.AsyncConnection[Any], client_id: str, jti: bytes, until: float) -> bool:
    """Whether the client says this for the first time. What has run out is forgotten on the way."""
    await pg.execute("DELETE FROM assertion WHERE until < now()")
    new = await pg.execute(
        "INSERT INTO assertion (client_id, jti, until) VALUES (%s, %s, to_timestamp(%s)) ON CONFLICT DO NOTHING",
        (client_id, jti, until),
    )
    return new.rowcount == 1
