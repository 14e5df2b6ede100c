"""Signing in and out, and the way to one's first page."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from fhir.outcome import Refusal
from hub import accounts
from hub.identity import SESSION_COOKIE
from hub.pages.door import Form, form, local, runtime, signed_in, visitor
from hub.pages.errors import PageRoute
from hub.pages.rendering import frame, page

router = APIRouter(route_class=PageRoute)


@router.get("/")
async def home(request: Request) -> Response:
    return RedirectResponse(frame(await signed_in(request)).home, 303)


@router.get("/sign-in")
async def ask(request: Request) -> Response:
    actor = await visitor(request)
    if actor is not None:
        return RedirectResponse(frame(actor).home, 303)
    return _page(request, local(request.query_params.get("back"), ""))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    # There is no session yet whose mark the form could carry: `hub.security` refuses what another site sends.
    sent = Form(await request.form())
    username, back = sent.text("username", 200), local(sent.text("back", 2000), "")
    password = (await request.form()).get("password")
    settings = runtime(request).settings
    try:
        signed = await accounts.sign_in(
            runtime(request).database,
            username,
            password if isinstance(password, str) else "",
            hours=settings.session_hours,
            demonstration=settings.demonstration,
            previous=request.cookies.get(SESSION_COOKIE),
        )
    except Refusal as refusal:
        if refusal.status != 401:
            raise
        return _page(request, back, username, refusal.issues[0].diagnostics, 401)
    response = RedirectResponse(back or frame(signed.actor).home, 303)
    response.set_cookie(**accounts.cookie(signed.secret, settings.session_hours, secure=_secure(request)))
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    actor = await signed_in(request)
    await form(request, actor)
    await accounts.sign_out(runtime(request).database, actor, request.cookies[SESSION_COOKIE])
    response = RedirectResponse("/sign-in?said=signed-out", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


def _secure(request: Request) -> bool:
    """Whether browsers reach the hub over https, which a proxy may end before us."""
    return (runtime(request).settings.base_url or str(request.url)).startswith("https:")


def _page(request: Request, back: str, username: str = "", error: str | None = None, status: int = 200) -> Response:
    return page(request, "sign_in.html", None, status, back=back, username=username, error=error)
