"""Refusals as pages: what happened, what was kept, what to do, and a reference number."""

import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from fhir.outcome import Refusal
from hub.audit import REQUEST_ID
from hub.pages.door import Elsewhere
from hub.pages.rendering import page

# status -> (what happened, what was kept, what to do)
WORDS: dict[int, tuple[str, str, str]] = {
    400: ("This address or form is not right", "Nothing was changed.", "Go back and try again."),
    401: ("You are not signed in", "Nothing was changed.", "Sign in and try again."),
    403: (
        "You cannot open this",
        "Nothing was changed.",
        "You see the people in whose care you are. If you should see this, ask the person's care coordinator to add "
        "you to the team.",
    ),
    404: (
        "There is nothing here for you",
        "Nothing was changed.",
        "It may have been removed, or the person is not in your care. Check the address, or search by name or NHS "
        "number.",
    ),
    409: (
        "Someone else was quicker",
        "Their change was kept; yours was not saved.",
        "Look at what is there now and decide again.",
    ),
    412: (
        "Someone else was quicker",
        "Their change was kept; yours was not saved.",
        "Look at what is there now and decide again.",
    ),
    413: ("That is too big", "Nothing was changed.", "Shorten it and send it again."),
    422: ("This cannot be saved", "Nothing was changed.", "Go back, put it right and send it again."),
    429: ("Too many requests", "Nothing was changed.", "Wait a minute and try again."),
    500: (
        "Something went wrong on our side",
        "What you sent was not saved; what was there before is unharmed.",
        "Try again in a minute. If it happens again, tell your hub's administrator the reference.",
    ),
    503: (
        "The hub cannot answer just now",
        "What you sent was not saved; what was there before is unharmed.",
        "Try again in a minute. Readings that devices send meanwhile are sent again by the devices.",
    ),
}


def error_page(request: Request, status: int, reason: str | None = None) -> HTMLResponse:
    """The page for *status*; *reason* is one sentence on this very case (a Refusal's diagnostics)."""
    title, kept, remedy = WORDS.get(status, WORDS[500] if status >= 500 else WORDS[400])
    return page(
        request,
        "error.html",
        getattr(request.state, "actor", None),
        status,
        title=title,
        reason=reason,
        kept=kept,
        remedy=remedy,
        reference=REQUEST_ID.get() or secrets.token_hex(6),
        back=request.headers.get("referer") and request.method == "POST",
        said=None,
    )


class PageRoute(APIRoute):
    """A route of the pages: refusals become pages, and a visitor who is not signed in is led to the sign-in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
                # PostgreSQL keeps no such character, so nothing can be there.
                return error_page(request, 404)
            try:
                return await handle(request)
            except Elsewhere as elsewhere:
                if request.headers.get("hx-request"):
                    return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
                return RedirectResponse(elsewhere.address, 303)
            except Refusal as refusal:
                return error_page(request, refusal.status, refusal.issues[0].diagnostics)

        return answer
