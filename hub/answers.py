"""What people make of flags, whichever door they come through: page, FHIR, bundle, patch.

What the rules found is the rules' to say. People move a flag along the table of moves (`monitoring.states`), in their
own name, saying why; they make none, and change neither its severity nor its readings. The hub writes down when it was,
works out what follows, and sets the timer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fhir.outcome import refuse
from fhir.store import Change, Key, Stored
from hub.db import Tx
from hub.identity import Actor
from hub.watch import is_test, synthetic_people
from monitoring import flags
from monitoring.cover import load_cover
from monitoring.escalation import timed
from monitoring.flags import Flag
from monitoring.moves import move, undo
from monitoring.states import ENDED, SNOOZED, UNDO, Move

JSON = dict[str, Any]

# Of a flag, what its moves decide; all else is the rules'.
_MOVED = (
    *("state", "moves", "level", "due", "outcome", "version"),
    *(f"{what}_{which}" for what in ("acknowledged", "resolved") for which in ("by", "at", "why")),
)


async def prepare(
    tx: Tx, actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored], now: datetime
) -> list[Change]:
    """*changes* with each move of a flag carried out. Refusal 403 for what is not the actor's to say, 409 and 422 as
    `monitoring.moves.move` has them."""
    found: dict[str, tuple[Flag | None, Flag]] = {}
    made: list[Change] = []
    for change in changes:
        if change.type != "Flag":
            made.append(change)
            continue
        stored = before.get((change.type, change.id))
        was = stored.resource if stored is not None else None
        done, pair = _answered(actor, change, was, now)
        if pair is not None:
            found[change.id] = pair
        made.append(done)
    if not found:
        return made
    await _tests_stay_apart(tx, made, found)
    covers = await load_cover(tx.pg, [after.hub_id for _, after in found.values()])
    for number, change in enumerate(made):
        if change.type == "Flag" and change.id in found:
            one, after = found[change.id]
            after = timed(one, after, covers[after.hub_id], now)
            made[number] = replace(change, resource=flags.to_fhir(after, change.resource))
    return made


def _answered(
    actor: Actor, change: Change, was: JSON | None, now: datetime
) -> tuple[Change, tuple[Flag | None, Flag] | None]:
    """The change, and the flag before and after where it is one of a rule and was moved."""
    active = [one is not None and one.get("status") == "active" for one in (was, change.resource)]
    if active == [True, False] and not actor.can("flag.resolve"):
        raise refuse(403, "forbidden", f"Your role ({actor.role}) may not close flags.", "Flag.status")
    found = flags.from_fhir(was, 0) if was is not None else None
    resource = _signed(change.resource, found, actor, now)
    said = flags.from_fhir(resource, 0) if resource is not None else None
    if found == said:
        return change, None
    asked = _asked(found, said) if found is not None and said is not None else None
    if asked is None or found is None:
        if not actor.can("record.import"):
            text = "A flag that a rule raised is moved on, in your own name and saying why; rules do the rest."
            raise refuse(403, "forbidden", text, "Flag.extension")
        # Another system brings what stood there.
        return change, (None, said) if said is not None else None
    if asked["by"] != actor.reference and not actor.can("record.import"):
        raise refuse(403, "forbidden", "A flag is moved in one's own name.", "Flag.extension")
    if (asked["to"] in ENDED or asked["to"] == SNOOZED) and not actor.can("flag.resolve"):
        raise refuse(403, "forbidden", f"Your role ({actor.role}) may not close or snooze flags.", "Flag.status")
    if asked["code"] == UNDO:
        after = undo(found, asked["by"], now)
    else:
        until = datetime.fromisoformat(asked["until"]) if asked["until"] else None
        after = move(found, asked["to"], asked["by"], now, asked["why"], code=asked["code"], until=until)
    return change, (found, after)


async def _tests_stay_apart(tx: Tx, changes: Sequence[Change], found: Mapping[str, tuple[Flag | None, Flag]]) -> None:
    """A flag that is labelled as test data calls nobody to a real person. Refusal 422."""
    tests = {
        found[one.id][1].patient_id for one in changes if one.id in found and one.resource and is_test(one.resource)
    }
    if tests - (await synthetic_people(tx, tests) if tests else set()):
        text = "A flag labelled HTEST stands on boards of made-up people only, and this person is real."
        raise refuse(422, "business-rule", text, "Flag.meta.security")


def _signed(resource: JSON | None, found: Flag | None, actor: Actor, now: datetime) -> JSON | None:
    """*resource* with the name of the actor and the time where its new move says neither."""
    if resource is None or found is None:
        return resource
    state = next((one for one in resource.get("extension", ()) if one.get("url") == flags.EXT), None)
    parts: list[JSON] = list(state.get("extension", ())) if state is not None else []
    moves = [one for one in parts if one.get("url") == "move"]
    if state is None or len(moves) != len(found.moves) + 1 or not isinstance(moves[-1].get("extension"), list):
        return resource
    said = {one.get("url") for one in moves[-1]["extension"]}
    added: list[JSON] = []
    if "by" not in said:
        added.append({"url": "by", "valueReference": {"reference": actor.reference}})
    if "at" not in said:
        added.append({"url": "at", "valueDateTime": now.isoformat()})
    signed = {**moves[-1], "extension": [*moves[-1]["extension"], *added]}
    parts = [signed if one is moves[-1] else one for one in parts]
    others = [one for one in resource["extension"] if one is not state]
    return {**resource, "extension": [*others, {**state, "extension": parts}]}


def _asked(found: Flag, said: Flag) -> Move | None:
    """The one move that makes *said* of *found*; None where anything else was changed, or more than one was made.

    It is the last of its moves, or what its parts `acknowledged` and `resolved` say.
    """
    if any(getattr(found, name) != getattr(said, name) for name in Flag.__dataclass_fields__ if name not in _MOVED):
        return None
    if len(said.moves) == len(found.moves) + 1 and said.moves[:-1] == found.moves:
        return said.moves[-1]
    if said.moves != found.moves or said.state == found.state:
        return None
    ends = said.state in ENDED
    by, why = (said.resolved_by, said.resolved_why) if ends else (said.acknowledged_by, said.acknowledged_why)
    if by is None:
        return None
    return Move(to=said.state, at="", by=by, why=why or "", code=said.outcome if ends else None, until=None)


def moved(resource: JSON, to: str, why: str, code: str | None = None, until: datetime | None = None) -> JSON:
    """The Flag *resource* with a further move, as anybody may send it; `prepare` signs and dates it."""
    parts: list[JSON] = [{"url": "to", "valueCode": to}, {"url": "why", "valueString": why}]
    if code == UNDO:
        parts.append({"url": "undo", "valueBoolean": True})
    elif code is not None:
        parts.append({"url": "outcome", "valueCoding": {"code": code}})
    if until is not None:
        parts.append({"url": "until", "valueDateTime": until.isoformat()})
    state = next(one for one in resource["extension"] if one.get("url") == flags.EXT)
    others = [one for one in resource["extension"] if one is not state]
    added = {**state, "extension": [*state["extension"], {"url": "move", "extension": parts}]}
    return {**resource, "extension": [*others, added]}
