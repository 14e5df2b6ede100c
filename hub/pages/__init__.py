"""The pages: HTML for people, at the root of the service. `register` adds them to the application."""

from contextlib import suppress

import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException

from hub.pages import (
    approval,
    audit,
    device,
    devices,
    emergency,
    flags,
    hours,
    integration,
    limits,
    live,
    looked,
    mdt,
    me,
    monitoring,
    my_readings,
    notices,
    patients,
    person_rules,
    plan,
    pregnancy,
    questions,
    readings,
    reports,
    rules,
    sign_in,
    summary,
    tasks,
    team,
    today,
    trial,
    upload,
)
from hub.pages.door import visitor
from hub.pages.errors import error_page

BOARDS = (
    today, mdt, live, flags, hours, tasks, devices, device, integration, audit, emergency, notices, reports, rules,
    trial,
)  # fmt: skip
CARE = (team, approval, limits, monitoring, pregnancy, questions, person_rules)
PERSON = (patients, summary, plan, upload, readings, *CARE)
NOT_PAGES = ("/fhir", "/static/", "/assets/", "/health")


def register(app: FastAPI) -> None:
    """Add every page. The application mounts `/assets` and `/static` itself."""
    for module in (sign_in, *BOARDS, *PERSON, me, my_readings, looked):
        app.include_router(module.router, include_in_schema=False)
    app.add_exception_handler(HTTPException, _unknown_address)


async def _unknown_address(request: Request, error: Exception) -> Response:
    """What no route answers: a page for people, the framework's own answer for everyone else."""
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(NOT_PAGES):
        return await http_exception_handler(request, error)
    # Who is signed in keeps their own frame around it, and is not asked to sign in.
    with suppress(psycopg.OperationalError):
        request.state.actor = await visitor(request)
    return error_page(request, error.status_code)
