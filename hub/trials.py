"""A rule tried on the past before it goes live: what it would have raised for the people whom the asker may see.

The work of a job (`hub.jobs`), since a month of a hub takes more than a moment; its result holds ids, never names.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir.outcome import refuse
from hub import access, composing, replays
from hub.db import Database, Tx
from hub.identity import Actor
from hub.jobs import JSON, Job, Told
from monitoring.comparison import Comparison, Pair, Side, compare
from monitoring.replay import Alert
from monitoring.rule_projection import watched
from monitoring.rules import BY_ID, RULES, Rule

KIND = "replay"
DAYS = (7, 30, 90)
MOST_PAIRS = 200
"""Alerts that a result lists; its counts are of all."""


async def run(database: Database, job: Job, actor: Actor, told: Told) -> JSON:
    """Carry out the trial that `job.request` asks for: {rule, days}."""
    if not actor.can("rule.read"):
        raise refuse(403, "forbidden", "your role does not try rules any more")
    until = datetime.now(UTC)
    days = int(job.request["days"])
    async with database.transaction() as tx:
        rule, ids = await rule_of(tx, actor, str(job.request["rule"]))
        people = await _people(tx, actor, ids, until)
    rules: Sequence[Rule] = [*(one for one in RULES if one.id != rule.id), rule]
    question = replays.Question(until - timedelta(days=days), until, rules, (rule.id,))

    def tell(done: int, of: int) -> None:
        told.words = f"{100 * done // max(of, done, 1)} % of the readings"

    found = await replays.answer(database.url, people, question, tell)
    return _result(compare(found.raised, found.replayed, days, found.people, found.readings), until)


async def rule_of(tx: Tx, actor: Actor, ident: str) -> tuple[Rule, set[str] | None]:
    """The rule, shipped or of the actor's hub, and the people whom it is for; None: everybody. Refusal 404."""
    if ident in BY_ID:
        return BY_ID[ident], None
    found, _ = await composing.find(tx, actor, ident)
    return found.rule(), None if found.scope.who == "hub" else await watched(tx.pg, found.id)


async def _people(tx: Tx, actor: Actor, ids: set[str] | None, until: datetime) -> list[tuple[str, int]]:
    allowed = access.people(actor, "reading.patient_id")
    if allowed is None:
        return []
    rows = await tx.pg.execute(
        "SELECT reading.patient_id, count(*) FROM reading JOIN person USING (patient_id)"
        f" WHERE received < %s AND ({allowed.text}) AND (%s::text IS NULL OR person.hub_id = %s)"
        " AND (%s::text[] IS NULL OR reading.patient_id = ANY(%s)) GROUP BY 1 ORDER BY 1",
        (until, *allowed.params, actor.hub_id, actor.hub_id, *[None if ids is None else sorted(ids)] * 2),
    )
    return await rows.fetchall()


def _result(found: Comparison, until: datetime) -> JSON:
    was, would = found.before.by_day(), found.after.by_day()
    days = sorted(was.keys() | would.keys())
    return {
        "until": until.isoformat(),
        "days": found.days,
        "people": found.people,
        "readings": found.readings,
        "before": _side(found.before, found.days),
        "after": _side(found.after, found.days),
        "busiest": list(found.busiest),
        "gone": len(found.gone),
        "new": len(found.new),
        "both": len(found.both),
        "sooner_minutes": None if found.sooner is None else round(found.sooner / timedelta(minutes=1)),
        "by_day": [[day.isoformat(), was[day], would[day]] for day in days],
        "pairs": [_pair(one) for one in found.pairs[-MOST_PAIRS:]],
    }


def _side(side: Side, days: float) -> JSON:
    return {
        "alerts": len(side.alerts),
        "red": side.red,
        "people": side.people,
        "a_day": round(side.a_day(days), 1),
        "information": side.information,
    }


def _pair(pair: Pair) -> JSON:
    def told(alert: Alert | None) -> list[Any] | None:
        return None if alert is None else [(alert.called or alert.opened).isoformat(), alert.worst]

    return {"patient": pair.patient_id, "before": told(pair.before), "after": told(pair.after)}
