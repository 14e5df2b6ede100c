"""Writes typed readings and receipts: set-based, in the transaction of their Observations."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from monitoring.readings import Reading

# What is written together is evaluated together, so it bears one number, drawn once: it stands among those of the
# versions of resources, and says which limits, facts and flags the rules saw (see `monitoring.past`).
_INSERT = """
INSERT INTO reading (observation_id, measure, patient_id, at, value, word, given, device_id, quality, why, received,
    seq)
SELECT observation_id, measure, patient_id, at, value, word, given, device_id, quality, why, %s,
    (SELECT nextval('resource_version_seq'))
FROM json_to_recordset(%s::json) AS row (observation_id text, measure text, patient_id text, at timestamptz,
    value float8, word text, given text, device_id text, quality text, why text)
"""

_REPLACE = """
WITH gone AS (DELETE FROM reading WHERE observation_id = ANY(%s)
    RETURNING observation_id, measure, seq, patient_id, at, value, word, quality, why, received)
INSERT INTO reading_replaced (observation_id, measure, seq, until, patient_id, at, value, word, quality, why, received)
SELECT observation_id, measure, seq, (SELECT nextval('resource_version_seq')), patient_id, at, value, word, quality,
    why, received
FROM gone
"""


async def project_readings(
    pg: psycopg.AsyncConnection[Any], readings: Sequence[Reading], received: datetime, replaced: Sequence[str] = ()
) -> None:
    """Store *readings*. *replaced* are the Observations that were updated or deleted: their old rows go first, to where
    replay finds them."""
    if replaced:
        await pg.execute(_REPLACE, (list(replaced),))
    if not readings:
        return
    # One JSON text for all rows: a third of the processor time of array parameters, and no round trip more than COPY.
    await pg.execute(_INSERT, (received, msgspec.json.encode(readings).decode()))


async def put_receipts(pg: psycopg.AsyncConnection[Any], receipts: Sequence[tuple[bytes, str, bytes]]) -> set[bytes]:
    """Claim keys: rows of (key, Observation id, digest of the values), each key once, in the order of the keys so that
    two batches never wait for each other in a ring. The keys that were new come back."""
    if not receipts:
        return set()
    rows = [{"key": key.hex(), "id": id_, "digest": digest.hex()} for key, id_, digest in receipts]
    cursor = await pg.execute(
        "INSERT INTO receipt (key, observation_id, digest) SELECT decode(key, 'hex'), id, decode(digest, 'hex')"
        " FROM json_to_recordset(%s::json) AS row (key text, id text, digest text)"
        " ON CONFLICT DO NOTHING RETURNING key",
        (msgspec.json.encode(rows).decode(),),
    )
    return {bytes(row[0]) for row in await cursor.fetchall()}


async def known_receipts(pg: psycopg.AsyncConnection[Any], keys: Sequence[bytes]) -> dict[bytes, tuple[str, bytes]]:
    """Observation id and digest of keys that are claimed."""
    if not keys:
        return {}
    cursor = await pg.execute("SELECT key, observation_id, digest FROM receipt WHERE key = ANY(%s)", (list(set(keys)),))
    return {bytes(key): (id_, bytes(digest)) for key, id_, digest in await cursor.fetchall()}


async def correct_receipts(pg: psycopg.AsyncConnection[Any], digests: Sequence[tuple[bytes, bytes]]) -> None:
    """The values behind these keys were corrected: a resend of the correction is a resend."""
    if digests:
        await pg.execute(
            "UPDATE receipt SET digest = new.digest FROM unnest(%s::bytea[], %s::bytea[]) AS new (key, digest)"
            " WHERE receipt.key = new.key",
            [list(column) for column in zip(*digests, strict=True)],
        )
