"""Finding a person."""

from collections import Counter
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from hub import audit
from hub.pages import words
from hub.pages.door import demand, form, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.person import TIERS, present
from hub.pages.rendering import page
from hub.pages.search import MOST, Found, mine, search, wanted

router = APIRouter(route_class=PageRoute)

PAGE = 50
FEW = 8
LONGEST = 100


@router.get("/patients")
async def patients(request: Request) -> Response:
    """The reader's own people, by name."""
    actor = await signed_in(request)
    demand(actor, "person.search")
    async with transaction(request) as tx:
        found = await mine(tx.pg, actor, request.query_params.get("after"), PAGE)
    await _kept(request, len(found))
    return page(
        request,
        "patients.html",
        actor,
        here="/patients",
        typed="",
        understood=True,
        rows=listed(found[:PAGE], present()),
        more=False,
        emergency=False,
        more_href=f"/patients?after={found[PAGE - 1].patient_id}" if len(found) > PAGE else None,
    )


@router.post("/patients")
async def find(request: Request) -> Response:
    """Everyone in the reader's care who matches. Posted, so that no name or number stands in an address or a log."""
    actor = await signed_in(request)
    demand(actor, "person.search")
    typed = (await form(request, actor)).text("q", LONGEST)
    asked = wanted(typed)
    async with transaction(request) as tx:
        found = await search(tx.pg, actor, asked) if asked else []
    await _kept(request, len(found))
    return page(
        request,
        "patients.html",
        actor,
        here="/patients",
        typed=typed,
        understood=asked is not None,
        rows=listed(found[:MOST], present()),
        more=len(found) > MOST,
        emergency=actor.can("emergency.access"),
        more_href=None,
    )


@router.post("/patients/answers")
async def answers(request: Request) -> Response:
    """The answers under the search box, while typing."""
    actor = await signed_in(request)
    demand(actor, "person.search")
    asked = wanted((await form(request, actor)).text("q", LONGEST))
    found: list[Found] = []
    if asked:
        async with transaction(request) as tx:
            found = await search(tx.pg, actor, asked, FEW)
        await _kept(request, len(found))
    return page(request, "answers.html", actor, asked=asked, rows=listed(found[:FEW], present()), more=len(found) > FEW)


async def _kept(request: Request, found: int) -> None:
    # What was typed is not kept: it may be a name.
    await runtime(request).reads.record(
        audit.entry(request.state.actor, "search", "Patient", detail={"page": "patients", "found": found})
    )


def listed(found: list[Found], now: datetime) -> list[dict[str, Any]]:
    """People as a list shows them; those whose names are alike are marked, so that nobody opens the wrong one."""
    alike = Counter((one.family.casefold(), one.given.casefold()[:1]) for one in found)
    return [shown(one, now) | {"alike": alike[one.family.casefold(), one.given.casefold()[:1]] > 1} for one in found]


def shown(found: Found, now: datetime) -> dict[str, Any]:
    return {
        "patient_id": found.patient_id,
        "name": words.person(found.family, found.given, found.called),
        "born": words.born(found.birth_date, now.astimezone(words.LONDON).date()),
        "nhs": words.nhs_number(found.nhs_number),
        "tier": TIERS.get(found.tier or "", found.tier or ""),
    }
