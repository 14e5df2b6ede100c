"""Who may say when a hub looks at flags and who is told of them, whichever door they come through."""

from collections.abc import Mapping, Sequence

from fhir.outcome import refuse
from fhir.store import Change, Key, Stored
from hub.identity import Actor
from monitoring.cover import is_cover


def hold(actor: Actor, changes: Sequence[Change], before: Mapping[Key, Stored]) -> None:
    """Refusal 403 for whoever may write the directory and not this part of it: it decides whether anybody is called."""
    for change in changes:
        if change.type != "HealthcareService" or actor.can("cover.set"):
            continue
        stored = before.get((change.type, change.id))
        was = stored.resource if stored is not None else None
        if any(one is not None and is_cover(one) for one in (was, change.resource)):
            text = f"Your role ({actor.role}) may not change when flags are looked at, and who is told."
            raise refuse(403, "forbidden", text, "HealthcareService.type")
