"""Readings of devices: who holds the device, what was sent before, what is refused and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

import msgspec
from msgspec import structs

from fhir import store
from fhir.outcome import Issue, Refusal, refuse
from fhir.store import Change, Written, new_id
from hub import watch
from hub.audit import REQUEST_ID
from hub.db import Tx
from hub.effects import carry_out
from hub.identity import SANDBOX_PERSON, Actor
from monitoring import flags
from monitoring.case import Facts
from monitoring.doubts import Doubt, clock_doubt, doubts
from monitoring.pregnancy import COUNTS
from monitoring.projection import correct_receipts, known_receipts, put_receipts
from monitoring.readings import HTEST, Reading, digest, instant, key, readings

JSON = dict[str, Any]

TEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": HTEST}

LARGEST_KEPT = 64 * 1024
"""Bytes kept of a refused message: a reading is well below; more is no reading."""


class Sent(msgspec.Struct, frozen=True):
    """One Observation of a device, under its new id and with the device's name; *raw* is kept if it is refused, and
    *request* is the id of the request that brought it, which the trail names."""

    actor: Actor
    observation: JSON
    raw: bytes
    request: str | None = None


def sent(actor: Actor, observation: JSON, raw: bytes, id_: str | None = None) -> Sent:
    device = observation.get("device") or {"reference": actor.reference}
    resource = {**observation, "id": id_ or new_id(), "device": device}
    if actor.sandbox:
        label_test(resource)
    return Sent(actor, resource, raw, REQUEST_ID.get())


def label_test(resource: JSON) -> None:
    """Label *resource* as test data, in place, if it is not."""
    if not watch.is_test(resource):
        meta = resource.get("meta", {})
        resource["meta"] = {**meta, "security": [*meta.get("security", ()), TEST]}


class Receipt(msgspec.Struct, frozen=True):
    """What became of it: `accepted` (new), `corrected` (a new version), `duplicate` (known already), or `refused`.

    `doubts` say why no rule looks at it, or not at all of it: its sender is told.
    """

    outcome: Literal["accepted", "corrected", "duplicate", "refused"]
    observation_id: str | None = None
    written: Written | None = None
    refusal: Refusal | None = None
    doubts: tuple[Doubt, ...] = ()


class Kept(Written, frozen=True):
    """What was written for a device at the general door, and what is doubtful about it."""

    doubts: tuple[Doubt, ...] = ()


class DeviceRefused(Refusal):
    """What a device may not send; `reason` is the code it is filed under."""

    def __init__(self, reason: str, diagnostics: str, expression: str) -> None:
        super().__init__(422, [Issue("business-rule", diagnostics, expression)])
        self.reason = reason


@dataclass(slots=True)
class _Item:
    sent: Sent
    readings: list[Reading]
    key: bytes
    digest: bytes
    facts: Facts
    doubted: tuple[Doubt, ...] = ()
    receipt: Receipt | None = None

    @property
    def id(self) -> str:
        return str(self.sent.observation["id"])

    def doubts(self, now: datetime) -> tuple[Doubt, ...]:
        return doubts(self.sent.observation, self.readings, now) + self.doubted


async def receive(tx: Tx, batch: Sequence[Sent], now: datetime) -> list[Receipt]:
    """One receipt for each of *batch*, in its order; see `hub.flows.receive_readings`."""
    subjects = [watch.subject_of(one.observation) for one in batch]
    holders = await _take_turns_of_holders(tx, {one.actor.id for one in batch}, set(subjects), now)
    items: list[_Item | Refusal] = []
    for one, subject in zip(batch, subjects, strict=True):
        try:
            items.append(_item(one, holders.get(one.actor.id, ()), subject, now))
        except Refusal as refusal:
            items.append(refusal)
    waiting = [item for item in items if isinstance(item, _Item)]
    while waiting:
        # A key sent twice in one batch is a resend or a correction of the first: it waits for the next round.
        first = {one.key: one for one in reversed(waiting)}
        await _store(tx, sorted(first.values(), key=lambda one: one.key), now)
        waiting = [one for one in waiting if one.receipt is None]
    receipts = [_refused(item) if isinstance(item, Refusal) else _receipt(item) for item in items]
    await file_refusals(
        tx,
        [
            (one.actor, one.raw, receipt.refusal)
            for one, receipt in zip(batch, receipts, strict=True)
            if receipt.refusal
        ],
    )
    return receipts


async def _store(tx: Tx, items: Sequence[_Item], now: datetime) -> None:
    """Give each of *items* (whose keys differ) its receipt."""
    new = await put_receipts(tx.pg, [(one.key, one.id, one.digest) for one in items])
    known = await known_receipts(tx.pg, [one.key for one in items if one.key not in new])
    changes: list[Change] = []
    writing: list[_Item] = []
    for one in items:
        author, request = one.sent.actor.reference, one.sent.request
        if one.key in new:
            changes.append(
                Change("create", "Observation", one.id, one.sent.observation, author=author, request=request)
            )
            writing.append(one)
            continue
        id_, digest_ = known[one.key]
        if digest_ == one.digest:
            one.receipt = Receipt("duplicate", id_, doubts=one.doubts(now))
        elif one.sent.observation.get("status") not in ("corrected", "amended"):
            one.receipt = Receipt("refused", id_, refusal=_differs(id_))
        else:
            resource = {**one.sent.observation, "id": id_}
            changes.append(Change("update", "Observation", id_, resource, author=author, request=request))
            one.readings = [structs.replace(reading, observation_id=id_) for reading in one.readings]
            writing.append(one)
    if not changes:
        return
    updated = [("Observation", change.id) for change in changes if change.method == "update"]
    before = await store.load(tx.pg, updated, lock=True) if updated else {}
    found = [reading for one in writing for reading in one.readings]
    facts = {watch.subject_of(one.sent.observation): one.facts for one in writing}
    written = await carry_out(tx, [one.sent.actor for one in writing], changes, before, found, now, facts)
    await correct_receipts(
        tx.pg,
        [(one.key, one.digest) for one, change in zip(writing, changes, strict=True) if change.method == "update"],
    )
    for one, done in zip(writing, written, strict=True):
        outcome: Literal["accepted", "corrected"] = "accepted" if done.status == 201 else "corrected"
        one.receipt = Receipt(outcome, done.change.id, done, doubts=one.doubts(now))


# -- what is refused ---------------------------------------------------------------------------------------------------


class _Holder(msgspec.Struct, frozen=True):
    """Who holds, or held, a device; `since` and `until` None: without bound."""

    patient_id: str | None
    since: datetime | None
    until: datetime | None
    status: str
    sandbox: bool
    clock_off: float | None
    synthetic: bool
    birth_date: date | None
    pregnant: bool
    hub_id: str | None

    @property
    def words(self) -> str:
        bounds = ("from", self.since), ("until", self.until)
        return " ".join(f"{word} {at.isoformat(timespec='seconds')}" for word, at in bounds if at is not None)

    def held(self, at: datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


_SANDBOX = _Holder(SANDBOX_PERSON, None, None, "active", True, None, True, None, False, None)

# Whoever holds a device now, and those before whom this batch names: what it kept of their time is theirs.
_HOLDERS = f"""
    WITH present AS MATERIALIZED (SELECT * FROM device WHERE id = ANY(%s)),
    holding AS (
        SELECT id, patient_id, since, NULL::timestamptz AS until, status, sandbox, clock_off FROM present
        UNION ALL
        SELECT present.id, earlier.patient_id, earlier.since, earlier.until, status, sandbox, clock_off
        FROM present JOIN device_use earlier ON earlier.device_id = present.id
        WHERE present.passed_on AND earlier.until IS NOT NULL AND earlier.patient_id = ANY(%s)
    ), held AS MATERIALIZED (
        SELECT holding.id AS device_id, patient_id, since, until, status, sandbox, clock_off,
               coalesce(synthetic, false), birth_date, {COUNTS}, person.hub_id
        FROM holding LEFT JOIN person USING (patient_id)
    ), taken AS MATERIALIZED ({flags.turns("(SELECT patient_id AS id FROM held WHERE patient_id IS NOT NULL) AS who")})
    SELECT held.*, (SELECT count(*) FROM taken) FROM held"""


async def _take_turns_of_holders(
    tx: Tx, device_ids: set[str], people: set[str], now: datetime
) -> Mapping[str, Sequence[_Holder]]:
    """Who holds these devices, the present holder first, and who of *people* held them before; and `flags.take_turns`
    for all of them, in the same statement."""
    rows = await tx.pg.execute(_HOLDERS, (list(device_ids), list(people), now))
    found: dict[str, list[_Holder]] = {}
    for id_, *rest, _ in await rows.fetchall():
        holder, known = _Holder(*rest), found.setdefault(id_, [])
        known.insert(0 if holder.until is None else len(known), holder)
    return found


def _item(one: Sent, holders: Sequence[_Holder], subject: str, now: datetime) -> _Item:
    """Hazards: wrong patient, device swapped between people. The reading must name the person who held the device when
    it was measured."""
    if not holders or holders[0].status != "active":
        raise DeviceRefused("unassigned-device", "This device is not in use here.", "Observation.device")
    sandbox = one.actor.sandbox
    theirs = [holder for holder in holders if holder.patient_id == subject]
    if sandbox and subject == SANDBOX_PERSON:
        theirs = [_SANDBOX]
    if not theirs:
        if holders[0].patient_id is None:
            raise DeviceRefused("unassigned-device", "This device is assigned to nobody.", "Observation.device")
        text = "The subject of the Observation is not the person to whom this device is assigned."
        raise DeviceRefused("unknown-patient", text, "Observation.subject")
    if one.observation["device"].get("reference") != one.actor.reference:
        text = f"The Observation names another device than the one that sends it, {one.actor.reference}."
        raise DeviceRefused("unassigned-device", text, "Observation.device")
    holder = theirs[0]
    # A test of a made-up person counts, so that demonstrations show something; what a sandbox key sends never does.
    test, synthetic = holder.sandbox or sandbox, holder.synthetic and not sandbox
    found = readings(one.observation, now, from_device=True, test=test, synthetic=synthetic)
    if len(theirs) > 1 or holder.since is not None or holder.until is not None:
        at = found[0].at if found else instant(one.observation)
        if at is None or not any(holder.held(at) for holder in theirs):
            raise _not_then(theirs, at)
    facts = Facts(holder.birth_date, holder.pregnant, holder.hub_id)
    # A test never takes the place of the real reading of the same moment.
    sender = f"{one.actor.id}#sandbox" if sandbox else one.actor.id
    item = _Item(one, found, key(sender, one.observation), digest(one.observation), facts)
    if (doubt := clock_doubt(holder.clock_off)) is not None:
        # Evaluated all the same: a wrong time is no reason to miss what was measured.
        item.doubted = (doubt,)
        item.readings = [structs.replace(reading, why=reading.why or doubt.text) for reading in found]
    return item


def _not_then(theirs: Sequence[_Holder], at: datetime | None) -> DeviceRefused:
    """Only of the person whom the device named itself: nobody learns who else held it."""
    times = "; ".join(one.words for one in theirs if one.words)
    measured = f"Measured at {at.isoformat(timespec='seconds')}" if at else "Without a time of measuring"
    text = f"{measured}: the person named did not hold this device then, but {times}."
    return DeviceRefused("outside-assignment", text, "Observation.effective")


def _differs(id_: str) -> Refusal:
    return refuse(
        409,
        "conflict",
        f"Observation/{id_} holds another value for this device, measure and time. To replace it, send the new one with"
        " status 'corrected' or 'amended'.",
        "Observation.value",
    )


def _refused(refusal: Refusal) -> Receipt:
    return Receipt("refused", refusal=refusal)


def _receipt(item: _Item) -> Receipt:
    assert item.receipt is not None
    return item.receipt


async def file_refusals(tx: Tx, refused: Sequence[tuple[Actor, bytes, Refusal]]) -> None:
    """Keep what was refused, as it came: the devices page says so, and nothing that a device says is lost."""
    if not refused:
        return
    await tx.pg.execute(
        "INSERT INTO refusal (id, device_id, actor, reason, detail, expression, raw) SELECT * FROM"
        " unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[])",
        (
            [new_id() for _ in refused],
            [actor.id if actor.kind == "device" else None for actor, _, _ in refused],
            [actor.reference for actor, _, _ in refused],
            [getattr(refusal, "reason", refusal.issues[0].code) for _, _, refusal in refused],
            ["; ".join(issue.diagnostics for issue in refusal.issues)[:4000] for _, _, refusal in refused],
            [refusal.issues[0].expression for _, _, refusal in refused],
            [raw[:LARGEST_KEPT] for _, raw, _ in refused],
        ),
    )


# -- the general door --------------------------------------------------------------------------------------------------


async def write(tx: Tx, actor: Actor, changes: Sequence[Change], now: datetime) -> list[Written]:
    """A device at the general door (a bundle): new Observations only, under the same rules, all or nothing.

    Whoever rolls the transaction back because of a Refusal files it afterwards with `file_refusals`.
    """
    observations: list[Sent] = []
    for change in changes:
        if change.type != "Observation" or change.method != "create" or change.resource is None:
            raise refuse(403, "forbidden", "A device may only create Observations.", change.type)
        observations.append(sent(actor, change.resource, b"", change.id))
    done: list[Written] = []
    for change, receipt in zip(changes, await receive(tx, observations, now), strict=True):
        if receipt.refusal is not None:
            raise receipt.refusal
        one = receipt.written or await as_stored(tx, change, receipt)
        same = one.change, one.status, one.version, one.updated, one.body, one.before, one.patient_id
        done.append(Kept(*same, receipt.doubts))
    return done


async def as_stored(tx: Tx, change: Change, receipt: Receipt) -> Written:
    """What is stored already, answered to a resend of *change* as if it had just been written (200)."""
    assert receipt.observation_id is not None
    key_ = ("Observation", receipt.observation_id)
    stored = (await store.load(tx.pg, [key_]))[key_]
    known = replace(change, id=stored.id)
    return Written(known, 200, stored.version, stored.updated, stored.body, None, stored.patient_id)
