"""What every request and response passes: request id, trusted host, cross-site check, body limit, security headers."""

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir.outcome import Refusal, refuse
from hub.audit import REQUEST_ID
from hub.fhir_formats import wanted, written
from hub.fhir_http import refused
from hub.identity import Actor
from hub.packing import too_large, unpacked

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers then send `Origin: null` with our own forms, which the cross-site check needs.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
}
HSTS = "max-age=31536000; includeSubDomains"
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?\Z")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class BrokenOff(Exception):
    """An answer that had begun could not be finished; why is in the log, without what it was about."""


class Security:
    """ASGI middleware, the outermost.

    *base_url*: the public address; when given, other hosts than it and loopback are refused. *max_body_bytes*: the
    largest body after decompression, except on paths in *streams*, whose handlers read piece by piece. *static*: path
    prefixes that may be cached; everything else says `no-store` unless its handler says otherwise. A body packed with
    gzip or zstd reaches the handlers unpacked. *failed* answers what no handler expected; the error itself goes no
    further, because a server would log its message.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        base_url: str | None,
        max_body_bytes: int,
        streams: Iterable[str] = (),
        static: Iterable[str] = ("/static/", "/assets/"),
        failed: Callable[[Request, Exception], Awaitable[Response]] | None = None,
    ) -> None:
        self._app = app
        self._base_url = base_url
        self._base_host = urlsplit(base_url).netloc.lower() if base_url else None
        self._max_body_bytes = max_body_bytes
        self._streams = frozenset(streams)
        self._static = tuple(static)
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        request_id = _request_id(headers.get("x-request-id"))
        token = REQUEST_ID.set(request_id)
        started = False
        secure = scope["scheme"] == "https" or (self._base_url or "").startswith("https:")

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(message["headers"], scope["path"], request_id, secure)
            await send(message)

        try:
            self._check_host(headers)
            self._check_site(scope, headers)
            await self._app(scope, self._limited(scope, headers, receive), send_with_headers)
        except Refusal as refusal:
            if started:
                raise
            answer = await _response(refusal, Request(scope))
            await answer(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception as error:  # the outermost place that can answer, and keep the message out of the server's log
            if self._failed is None:
                raise
            answer = await self._failed(Request(scope), error)
            if started:
                raise BrokenOff(scope["path"]) from None
            await answer(scope, receive, send_with_headers)
        finally:
            REQUEST_ID.reset(token)

    def _add_headers(self, headers: list[tuple[bytes, bytes]], path: str, request_id: str, secure: bool) -> None:
        there = {name for name, _ in headers}
        headers += [header for header in _RAW_HEADERS if header[0] not in there]
        headers.append((b"x-request-id", request_id.encode()))
        if b"cache-control" not in there and not path.startswith(self._static):
            headers.append((b"cache-control", b"no-store"))
        if secure:
            headers.append((b"strict-transport-security", HSTS.encode()))

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "").lower()
        if not _is_host(host):
            raise refuse(400, "invalid", "The Host header is missing or malformed.")
        if self._base_host is not None and host != self._base_host and _without_port(host) not in _LOOPBACK:
            raise refuse(421, "forbidden", "This server does not answer for that host.")

    def _check_site(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuse writes that a page of another site makes a signed-in browser send.

        A request with an Authorization header carries nothing the browser adds by itself. Programs that are no
        browsers send neither `Sec-Fetch-Site` nor `Origin`, and have no cookie to abuse.
        """
        if scope["method"] in SAFE_METHODS or "authorization" in headers:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            same = site in ("same-origin", "none")
        elif origin is not None:
            host = urlsplit(origin).netloc.lower()
            same = origin == self._base_url or (host != "" and host == headers.get("host", "").lower())
        else:
            same = True
        if not same:
            raise refuse(403, "forbidden", "This request came from another site.")

    def _limited(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Receive:
        limit = None if scope["path"] in self._streams else self._max_body_bytes
        length = headers.get("content-length", "0")
        if limit is not None and length.isdecimal() and int(length) > limit:
            raise too_large(limit)
        if "content-encoding" in headers:
            return unpacked(scope, receive, limit)
        return receive if limit is None else _counted(receive, limit)


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request by their names in lower case; of one that comes twice, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


@lru_cache(256)
def _is_host(host: str) -> bool:
    return _HOST.match(host) is not None


def _counted(receive: Receive, limit: int) -> Receive:
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise too_large(limit)
        return message

    return counted


def check_csrf(actor: Actor, given: str | None) -> None:
    """Refusal 403 unless *given* (form field `csrf` or header `X-CSRF-Token`) is the token of the actor's session.

    Actors without a session (bearer tokens, device keys) have none and need none: nothing sends those by itself.
    """
    if actor.csrf is not None and not hmac.compare_digest(actor.csrf.encode(), (given or "").encode()):
        raise refuse(403, "forbidden", "This page is out of date. Go back, reload it and try again.")


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.match(given) else secrets.token_hex(8)


def _without_port(host: str) -> str:
    return host if host.endswith("]") else re.sub(r":\d+\Z", "", host)


async def _response(refusal: Refusal, request: Request) -> Response:
    if request.url.path.startswith("/fhir"):
        return await written(refused(refusal), wanted(request))
    return PlainTextResponse(str(refusal) + "\n", refusal.status, refusal.headers)
