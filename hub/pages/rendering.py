"""Templates to HTML: the environment, the frame around every page, and what every template may call."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, PackageLoader, StrictUndefined

from hub.access import may_read
from hub.identity import Actor
from hub.notices import readable
from hub.pages import words
from hub.roles import ROLES
from hub.settings import settings

HERE = Path(__file__).parents[1]
ASSETS, STATIC = HERE / "assets", HERE / "static"

# The design system's macros count on undefined values being harmless; our own templates must not.
_design_system = Environment(
    loader=PackageLoader("nhsuk_frontend_jinja"), undefined=ChainableUndefined, autoescape=True, auto_reload=False
)
MACROS = {
    "input": "input",
    "button": "button",
    "textarea": "textarea",
    "radios": "radios",
    "select": "select",
    "passwordInput": "password-input",
    "dateInput": "date-input",
    "errorSummary": "error-summary",
    "warningCallout": "warning-callout",
    "insetText": "inset-text",
    "summaryList": "summary-list",
    "details": "details",
}

PLACES = (
    ("board.today", "/today", "Today"),
    ("person.search", "/patients", "Patients"),
    ("board.mdt", "/mdt", "MDT"),
    ("device.manage", "/devices", "Devices"),
    ("report.read", "/reports/alerts", "Reports"),
    ("cover.set", "/hours", "Hours"),
    ("rule.read", "/rules", "Rules"),
    ("audit.read", "/audit", "Audit"),
    ("emergency.review", "/emergencies", "Emergencies"),
)


# Names of hubs, filled by `door.signed_in` when first needed: they stand on every page and hardly ever change.
HUB_NAMES: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Place:
    href: str
    name: str


# What patients and carers open; who has looked is for the person alone.
OWN_PLACES = (
    Place("/me", "My page"),
    Place("/me/plan", "My plan"),
    Place("/me/readings", "My readings"),
    Place("/me/looked", "Who has looked"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around every page: who is signed in, where they can go, whether this is a demonstration, and whether
    the reader's role reads what was measured."""

    demonstration: bool
    home: str = "/sign-in"
    hub: str | None = None
    name: str | None = None
    role: str | None = None
    csrf: str = ""
    search: bool = False
    notices: bool = False
    measures: bool = False
    places: tuple[Place, ...] = ()


def frame(actor: Actor | None) -> Frame:
    demonstration = settings().demonstration
    if actor is None:
        return Frame(demonstration)
    places, home = _places(actor.role)
    if actor.kind == "patient":
        places, home = OWN_PLACES[: 4 if actor.role == "patient" else 3], "/me"
    return Frame(
        demonstration=demonstration,
        home=home,
        hub=HUB_NAMES.get(actor.hub_id or ""),
        name=actor.name,
        role=role_words(actor.role),
        csrf=actor.csrf or "",
        notices=bool(readable(actor)),
        measures=may_read(actor, "Observation"),
        search=any(place.href == "/patients" for place in places),
        places=places if len(places) > 1 else (),
    )


@cache
def _places(role_name: str) -> tuple[tuple[Place, ...], str]:
    role = ROLES[role_name]
    places = tuple(Place(href, name) for permission, href, name in PLACES if permission in role.permissions)
    homes = {place.href for place in places} | {"/me", "/tasks"}
    return places, role.landing if role.landing in homes else (places[0].href if places else "/tasks")


def role_words(role: str) -> str:
    """`care-coordinator` -> `Care coordinator`."""
    return role.replace("-", " ").capitalize()


@cache
def asset(name: str) -> str:
    """The address of a stylesheet or script, with a mark of its content so that browsers may keep it for ever."""
    for folder, mount in ((STATIC, "/static"), (ASSETS, "/assets")):
        path = folder / name
        if path.is_file():
            return f"{mount}/{name}?v={blake2b(path.read_bytes(), digest_size=6).hexdigest()}"
    return f"/assets/{name}"


environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.globals.update(asset=asset, said=None, here=None, words=words)
environment.filters.update(nhs=words.nhs_number, long_date=words.long_date, number=words.number)


def _macro(name: str, folder: str) -> Any:
    """A design-system macro, compiled at its first call: most pages need none."""

    def call(parameters: Mapping[str, Any]) -> Any:
        module = _design_system.get_template(f"nhsuk/components/{folder}/macro.jinja").module
        return getattr(module, name)(parameters)

    return call


environment.globals.update({name: _macro(name, folder) for name, folder in MACROS.items()})


def render(template: str, **context: Any) -> str:
    return environment.get_template(template).render(context)


def page(request: Request, template: str, actor: Actor | None, status: int = 200, **context: Any) -> HTMLResponse:
    """A whole page. `said` in the address names one of SAID: what the last act did, without a word about anyone."""
    context.setdefault("said", SAID.get(request.query_params.get("said", "")))
    context.setdefault("here", None)
    return HTMLResponse(render(template, frame=frame(actor), **context), status, headers={"Cache-Control": "no-store"})


def fresh() -> str:
    """A mark that makes a form one of its kind, so that the same form sent twice does its work once."""
    return secrets.token_urlsafe(12)


SAID = {
    "acknowledged": "Acknowledged. The flag stays open until it is resolved.",
    "resolved": "Resolved. It is kept in the person's record.",
    "false-alarm": "Marked as a false alarm. It is kept, and counts towards how good the rule is.",
    "in-progress": "In progress. The flag stays open until it is closed.",
    "escalated": "Escalated. Whoever is next in the chain has been told.",
    "snoozed": "Snoozed. It is open again when the time is over, or as soon as a reading is worse.",
    "open": "Open again.",
    "undone": "Taken back. Both steps stay in the history.",
    "hours-saved": "Hours saved. They count for every flag from now on; what waits already keeps its time.",
    "task-done": "Task marked as done.",
    "plan-saved": "Plan saved. Everyone in the team sees the new version.",
    "plan-same": "Nothing was changed, so no new version was made.",
    "plan-started": "The plan has started.",
    "approval-recorded": "Approval recorded. A plan can now be written.",
    "approval-withdrawn": "The withdrawal is recorded. An active plan is on hold now.",
    "team-saved": "Team saved. The person sees it by name and role.",
    "monitoring-saved": "Saved. It is asked for from now on.",
    "monitoring-stopped": "Stopped. It is not asked for any more, and its limits no longer hold.",
    "monitoring-undone": "Undone. It is as it was before.",
    "monitoring-paused": "Paused. Nobody is reminded in that time.",
    "monitoring-resumed": "The pause is over. What is asked for counts again.",
    "template-used": "The template is in force. Change what does not fit, measure by measure.",
    "answers-saved": "Saved. The score stands with the readings.",
    "limits-saved": "Limits saved. They count from the next reading.",
    "rule-saved": "Saved as a draft. It watches nobody until it is live.",
    "rule-live": "Live. It looks from the next reading on.",
    "rule-retired": "Retired. It watches nobody any more.",
    "rule-ordered": "Ordered. The rule looks from the next reading on.",
    "rule-ended": "The order has ended. The rule no longer watches this person.",
    "pregnancy-recorded": "Pregnancy recorded. NEWS2 is not scored until its end is recorded.",
    "pregnancy-ended": "The end is recorded. NEWS2 is scored again from the next reading.",
    "reading-saved": "Reading saved.",
    "reading-wrong": "Struck through. It stays in the record, and no rule looks at it again. Its flags stay open.",
    "reading-right": "No longer struck through. Rules look at it as when it came.",
    "note-saved": "Note saved. It stands in the charts.",
    "emergency-opened": "Open to you for a few hours. The person is told, and your reason is looked into.",
    "emergency-reviewed": "Noted that you have looked into it.",
    "device-registered": "Registered. Make its key, and hand it to somebody.",
    "device-assigned": "Handed over. What it measures from then on belongs to this person.",
    "device-returned": "Back in stock. What it measured before stays with who held it.",
    "device-gone": "Noted. Nobody holds it, and its keys have ended.",
    "device-back": "Back in stock. It needs a new key.",
    "device-keys-ended": "All its keys have ended: nothing it sends is accepted.",
    "paused": "Paused. Nobody is chased until then; a reading that comes is looked at.",
    "pause-ended": "The pause has ended. Missing readings count again.",
    "signed-out": "You have signed out.",
}
