"""Work that outlasts its request: rows of `job`, taken by any process of any machine on the same PostgreSQL.

A process that takes a job holds it for `LEASE` seconds at a time. When it dies, the lease runs out and another process
begins the job anew, with whatever the job has kept of how far it got. A job that is deleted stops at the next beat. It
is carried out with its owner's access as it is then: an account that was closed meanwhile ends it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb

from fhir.outcome import Refusal, outcome_of, refuse
from fhir.store import new_id
from hub.audit import REQUEST_ID
from hub.db import Database, Tx
from hub.faults import told
from hub.identity import Actor, account_actor

JSON = dict[str, Any]
log = structlog.get_logger()

INTERVAL = 2.0
"""Seconds between two looks for work of an idle process."""
LEASE = 30
LONGEST = 4 * 3600
"""Seconds after which a job is given up."""
ATTEMPTS = 3
KEPT_HOURS = 24
"""How long what a job made can be fetched."""
MOST_OPEN = 5
"""Jobs that one caller may have under way."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row. `state`: arriving (its input is still coming in), waiting, running, done or failed."""

    id: str
    kind: str
    state: str
    owner: str
    account_id: str
    request: JSON
    progress: str
    result: JSON | None
    attempts: int
    request_id: str | None
    created: datetime
    expires: datetime

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed")


@dataclass(slots=True)
class Told:
    """How far the work is, in words that name no record; written down at the next beat."""

    words: str = ""


Work = Callable[[Database, Job, Actor, Told], Awaitable[JSON]]
_COLUMNS = "id, kind, state, owner, account_id, request, progress, result, attempts, request_id, created, expires"


async def start(tx: Tx, actor: Actor, kind: str, request: JSON, state: str = "waiting") -> str:
    """A new job of *actor*; its id. Refusal 429 when they have MOST_OPEN under way already."""
    # One caller's requests in turn, so that two at once cannot both be the last one allowed.
    await tx.pg.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"jobs of {actor.reference}",))
    rows = await tx.pg.execute(
        "SELECT count(*) FROM job WHERE owner = %s AND state NOT IN ('done', 'failed')", (actor.reference,)
    )
    row = await rows.fetchone()
    if row is not None and row[0] >= MOST_OPEN:
        refusal = refuse(429, "throttled", f"you have {row[0]} jobs under way, as many as may be: wait, or delete one")
        refusal.headers["Retry-After"] = "60"
        raise refusal
    id_ = new_id()
    scope = None if actor.scope is None else str(actor.scope)
    await tx.pg.execute(
        "INSERT INTO job (id, kind, state, owner, account_id, scope, request, request_id, expires)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now() + make_interval(hours => %s))",
        (id_, kind, state, actor.reference, actor.id, scope, Jsonb(request), REQUEST_ID.get(), KEPT_HOURS),
    )
    return id_


async def find(tx: Tx, actor: Actor, id_: str) -> Job:
    """The job, for whoever started it. Refusal 404 for everybody else, and once it has expired.

    A token of limited scope finds those that were started with the same scope, or it could fetch what it may not read.
    """
    scope = None if actor.scope is None else str(actor.scope)
    rows = await tx.pg.execute(
        f"SELECT {_COLUMNS} FROM job WHERE id = %s AND owner = %s AND account_id = %s AND expires > now()"
        " AND (%s::text IS NULL OR scope = %s)",
        (id_, actor.reference, actor.id, scope, scope),
    )
    row = await rows.fetchone()
    if row is None:
        raise refuse(404, "not-found", f"there is no job {id_[:64]} of yours, or it has expired")
    return Job(*row)


async def remove(tx: Tx, ids: list[str]) -> None:
    """The jobs and what they made; whoever carries one out stops."""
    await tx.pg.execute("DELETE FROM job_piece WHERE job_id = ANY(%s)", (ids,))
    await tx.pg.execute("DELETE FROM job WHERE id = ANY(%s)", (ids,))


async def keep(database: Database, works: Mapping[str, Work], wake: asyncio.Event, interval: float = INTERVAL) -> None:
    """Carry out jobs, one at a time, for ever. *wake* is set where this process starts one itself."""
    worker = f"{os.uname().nodename}:{os.getpid()}:{new_id()}"
    while True:
        job = None
        try:
            wake.clear()
            job = await claim(database, worker, list(works))
            if job is not None:
                await _carry_out(database, job, works[job.kind], worker)
        except psycopg.Error as error:
            log.warning("jobs wait for the database", kind=type(error).__name__)
            job = None
        if job is None:
            try:
                await asyncio.wait_for(wake.wait(), interval)
            except TimeoutError:
                continue


async def claim(database: Database, worker: str, kinds: Sequence[str]) -> Job | None:
    """The oldest job of these *kinds* that nobody has, now this worker's; what has expired is removed on the way.

    A process of an older version leaves alone what only a newer one can do.
    """
    async with database.transaction() as tx:
        rows = await tx.pg.execute("SELECT id FROM job WHERE expires <= now() FOR UPDATE SKIP LOCKED LIMIT 20")
        expired = [row[0] for row in await rows.fetchall()]
        if expired:
            await remove(tx, expired)
        rows = await tx.pg.execute(
            f"""UPDATE job SET state = 'running', worker = %s, attempts = attempts + 1,
                    lease = now() + make_interval(secs => %s)
                WHERE id = (SELECT id FROM job
                    WHERE (state = 'waiting' OR (state = 'running' AND lease < now())) AND kind = ANY(%s)
                    ORDER BY created LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING {_COLUMNS}""",
            (worker, LEASE, list(kinds)),
        )
        row = await rows.fetchone()
    return None if row is None else Job(*row)


async def _carry_out(database: Database, job: Job, work: Work, worker: str) -> None:
    actor = await _owner(database, job)
    if actor is None or job.attempts > ATTEMPTS:
        said = "the account that asked is closed" if actor is None else f"it was begun {ATTEMPTS} times and never ended"
        await _fail(database, job, worker, refuse(422, "processing", said))
        return
    told_ = Told()
    working = asyncio.ensure_future(work(database, job, actor, told_))
    beating = asyncio.create_task(_beat(database, job, worker, told_))
    try:
        await asyncio.wait({working, beating}, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
        finished = working.done()
    except asyncio.CancelledError:
        await _stopped(working, beating)
        await _give_back(database, job, worker)
        raise
    overdue = not finished and not beating.done()
    await _stopped(*((beating,) if finished else (working, beating)))
    if overdue:
        said = f"it was given up after {LONGEST // 3600} hours: ask for less"
        await _fail(database, job, worker, refuse(422, "timeout", said))
    elif finished:
        await _settle(database, job, worker, working)


async def _settle(database: Database, job: Job, worker: str, working: "asyncio.Future[JSON]") -> None:
    if working.cancelled():
        return  # nobody here asked for that: the lease runs out, and somebody begins anew
    error = working.exception()
    if error is None:
        await _finish(database, job, worker, "done", working.result())
    elif isinstance(error, Refusal):
        await _fail(database, job, worker, Refusal(422, error.issues))
    elif isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg.errors.QueryCanceled):
        # The database went away: the lease runs out, and somebody begins anew.
        raise error
    else:
        log.error("job failed", job=job.id, job_kind=job.kind, **told(error))
        said = "something went wrong here; it has been logged under the job's id"
        await _fail(database, job, worker, refuse(500, "exception", said))


async def _beat(database: Database, job: Job, worker: str, told_: Told) -> None:
    """Keep the lease and write down how far it is; returns when the job is not this worker's any more."""
    while True:
        try:
            async with database.transaction() as tx:
                rows = await tx.pg.execute(
                    "UPDATE job SET lease = now() + make_interval(secs => %s), progress = %s"
                    " WHERE id = %s AND worker = %s AND state = 'running' RETURNING id",
                    (LEASE, told_.words[:100], job.id, worker),
                )
                if await rows.fetchone() is None:
                    return
        except psycopg.OperationalError as error:
            log.warning("a job's lease waits for the database", kind=type(error).__name__)
        await asyncio.sleep(min(1.0, LEASE / 10))


async def _fail(database: Database, job: Job, worker: str, refusal: Refusal) -> None:
    result = {"status": refusal.status, "outcome": outcome_of(refusal)}
    await _finish(database, job, worker, "failed", result)


async def _finish(database: Database, job: Job, worker: str, state: str, result: Mapping[str, Any]) -> None:
    async with database.transaction() as tx:
        await tx.pg.execute(
            "UPDATE job SET state = %s, result = %s, finished = now(), lease = NULL,"
            " expires = now() + make_interval(hours => %s) WHERE id = %s AND worker = %s",
            (state, Jsonb(result), KEPT_HOURS, job.id, worker),
        )


async def _give_back(database: Database, job: Job, worker: str) -> None:
    """This process ends: whoever is next need not wait for the lease, and it counts as no attempt."""
    try:
        async with database.transaction() as tx:
            await tx.pg.execute(
                "UPDATE job SET state = 'waiting', lease = NULL, attempts = attempts - 1 WHERE id = %s AND worker = %s",
                (job.id, worker),
            )
    except psycopg.OperationalError as error:
        log.warning("a job's lease will run out", kind=type(error).__name__)


async def _stopped(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _owner(database: Database, job: Job) -> Actor | None:
    async with database.transaction() as tx:
        rows = await tx.pg.execute(
            "SELECT account.id, name, role, reference, organisations, hub_id, NULL, job.scope FROM account"
            " JOIN job ON job.account_id = account.id AND job.owner = account.reference"
            " WHERE job.id = %s AND active",
            (job.id,),
        )
        row = await rows.fetchone()
    return None if row is None else account_actor(*row)
