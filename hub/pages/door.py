"""Who comes to a page, what they may open, and what their forms hold."""

import hmac
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData, UploadFile

from fhir.outcome import Refusal, refuse
from hub import identity
from hub.access import may_read
from hub.db import Tx
from hub.identity import Actor
from hub.pages.records import hub_of
from hub.pages.rendering import HUB_NAMES

if TYPE_CHECKING:
    from hub.runtime import Runtime


class Elsewhere(Exception):
    """The answer is another address: sign in first, or the page that follows a form."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def runtime(request: Request) -> "Runtime":
    found: Runtime = request.app.state.runtime
    return found


def transaction(request: Request) -> AbstractAsyncContextManager[Tx]:
    return runtime(request).database.transaction()


async def visitor(request: Request) -> Actor | None:
    """Who is signed in by the session cookie; None when nobody is. Tokens and keys open no pages."""
    try:
        return await identity.authenticate({}, request.cookies, runtime(request).database)
    except Refusal as refusal:
        if refusal.status != 401:
            raise
        return None


async def signed_in(request: Request) -> Actor:
    """The actor of this page. Raises Elsewhere (to sign in and come back) when nobody is signed in."""
    actor = await visitor(request)
    if actor is None:
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        raise Elsewhere("/sign-in" + (f"?back={quote(back)}" if request.method == "GET" and back != "/" else ""))
    request.state.actor = actor
    if actor.hub_id and actor.hub_id not in HUB_NAMES:
        async with transaction(request) as tx:
            HUB_NAMES[actor.hub_id] = (await hub_of(tx.pg, actor.hub_id)).name
    return actor


def demand(actor: Actor, permission: str) -> None:
    """Raises Refusal 403 unless the actor's role owns *permission*."""
    if not actor.can(permission):
        raise refuse(403, "forbidden", "Your role does not open this page.")


def demand_sight(actor: Actor, type_: str) -> None:
    """Raises Refusal 403 unless the actor's role reads this FHIR type of the people in its care."""
    if not may_read(actor, type_):
        raise refuse(403, "forbidden", "Your role does not open this page.")


class Form:
    """What a form sent, as stripped text with plain line ends."""

    def __init__(self, data: FormData) -> None:
        self._data = data

    def text(self, name: str, most: int = 10_000) -> str:
        """The text of a field, empty when it was not sent. Raises Refusal 422 above *most* characters."""
        value = self._data.get(name, "")
        if isinstance(value, UploadFile) or value is None:
            return ""
        value = value.replace("\r\n", "\n").replace("\x00", "").strip()
        if len(value) > most:
            raise refuse(422, "too-long", f"That is longer than {most} characters. Go back and shorten it.", name)
        return value

    def texts(self, name: str) -> list[str]:
        values = (value for value in self._data.getlist(name) if isinstance(value, str))
        return [value.replace("\r\n", "\n").replace("\x00", "").strip() for value in values]

    def number(self, name: str) -> int:
        try:
            return int(self.text(name))
        except ValueError as error:
            raise refuse(400, "invalid", "The form was not complete. Go back and try again.", name) from error

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def values(self) -> dict[str, Any]:
        return {name: self.text(name) for name in self._data}


async def form(request: Request, actor: Actor) -> Form:
    """The form of a signed-in page. Raises Refusal 403 when it does not carry the session's own mark (CSRF)."""
    data = await request.form()
    sent = data.get("csrf")
    if not actor.csrf or not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), actor.csrf.encode()):
        raise refuse(
            403,
            "forbidden",
            "This form was opened in another session, so nothing was saved. Go back, copy what you wrote, reload the "
            "page and send it again.",
        )
    return Form(data)


def local(address: str | None, otherwise: str) -> str:
    """*address* when it is a path of this service, else *otherwise*: nobody can send people away through a form."""
    if not address or not address.startswith("/") or address.startswith(("//", "/\\")) or "\\" in address:
        return otherwise
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or any(ord(letter) < 32 for letter in address):
        return otherwise
    return address


def told(address: str, said: str) -> RedirectResponse:
    """To *address*, which then says what was done (`rendering.SAID`). A reload does not send the form again."""
    path, mark, fragment = address.partition("#")
    return RedirectResponse(f"{path}{'&' if '?' in path else '?'}said={said}{mark}{fragment}", 303)
