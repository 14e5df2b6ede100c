"""What every request and response passes: headers, hosts, other sites, limits."""

import gzip
import re
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fhir.outcome import Refusal
from hub import faults
from hub.audit import REQUEST_ID
from hub.identity import Actor
from hub.security import CONTENT_SECURITY_POLICY, BrokenOff, Security, check_csrf

LIMIT = 100_000


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse({"bytes": len(body), "request_id": REQUEST_ID.get(), "head": body[:20].decode("latin-1"),
                         "encoding": request.headers.get("content-encoding")})  # fmt: skip


async def stream(request: Request) -> Response:
    total = largest = 0
    async for piece in request.stream():
        total, largest = total + len(piece), max(largest, len(piece))
    return JSONResponse({"bytes": total, "largest": largest})


async def cached(request: Request) -> Response:
    return PlainTextResponse("x", headers={"cache-control": "max-age=60"})


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse({"issue": [issue.as_json() for issue in error.issues]}, error.status)


def app(base_url: str | None = None) -> Starlette:
    routes = [
        Route(path, endpoint, methods=["GET", "POST", "PUT", "DELETE"])
        for path, endpoint in (("/", echo), ("/fhir/Patient", echo), ("/stream", stream), ("/cached", cached),
                               ("/static/x.css", echo))
    ]  # fmt: skip
    security = Middleware(Security, base_url=base_url, max_body_bytes=LIMIT, streams=("/stream",))
    return Starlette(routes=routes, middleware=[security], exception_handlers={Refusal: refused})


Client = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    opened: list[httpx.AsyncClient] = []

    def make(base_url: str | None = None, address: str = "http://hub.test") -> httpx.AsyncClient:
        opened.append(httpx.AsyncClient(transport=httpx.ASGITransport(app(base_url)), base_url=address))
        return opened[-1]

    yield make
    for one in opened:
        await one.aclose()


class TestHeaders:
    async def test_every_answer_carries_them(self, client: Client) -> None:
        for path, status in (("/", 200), ("/nowhere", 404)):
            answer = await client().get(path)
            assert answer.status_code == status
            assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cache-control"] == "no-store"
            assert "strict-transport-security" not in answer.headers

    def test_the_policy_allows_no_inline_script_or_style_and_no_frame(self) -> None:
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
        for part in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'"):
            assert part in CONTENT_SECURITY_POLICY

    async def test_https_is_told_to_stay(self, client: Client) -> None:
        assert "strict-transport-security" in (await client(address="https://hub.test").get("/")).headers
        proxied = client("https://hub.example", "http://hub.example")
        assert "strict-transport-security" in (await proxied.get("/")).headers

    async def test_a_handler_may_allow_caching_and_assets_are_left_alone(self, client: Client) -> None:
        assert (await client().get("/cached")).headers["cache-control"] == "max-age=60"
        assert "cache-control" not in (await client().get("/static/x.css")).headers

    async def test_the_request_id_is_kept_when_it_is_one(self, client: Client) -> None:
        answer = await client().get("/", headers={"x-request-id": "abc-123"})
        assert (answer.headers["x-request-id"], answer.json()["request_id"]) == ("abc-123", "abc-123")

    @pytest.mark.parametrize("given", ["a b", "x" * 65, "<script>", "a\tb", ""])
    async def test_a_request_id_that_is_none_is_replaced(self, client: Client, given: str) -> None:
        answer = await client().get("/", headers={"x-request-id": given})
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


class TestHosts:
    @pytest.mark.parametrize("host", ["evil.example", "hub.example.evil.example", "hub.example:99"])
    async def test_another_host_is_refused_when_ours_is_known(self, client: Client, host: str) -> None:
        answer = await client("https://hub.example").get("/", headers={"host": host})
        assert answer.status_code == 421

    @pytest.mark.parametrize("host", ["hub.example", "HUB.example", "localhost:8000", "127.0.0.1:1", "[::1]:80"])
    async def test_our_own_and_loopback_are_answered(self, client: Client, host: str) -> None:
        assert (await client("https://hub.example").get("/", headers={"host": host})).status_code == 200

    @pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", "x" * 300, "a:99999999"])
    async def test_a_malformed_host_is_refused(self, client: Client, host: str) -> None:
        assert (await client().get("/", headers={"host": host})).status_code == 400


class TestOtherSites:
    """Cross-site request forgery: a page elsewhere makes a signed-in browser write."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://hub.test.evil.example"},
            {"sec-fetch-site": "cross-site", "origin": "http://hub.test"},
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    async def test_a_write_from_another_site_is_refused(
        self, client: Client, headers: dict[str, str], method: str
    ) -> None:
        assert (await client().request(method, "/", headers=headers)).status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"sec-fetch-site": "same-origin"},
            {"sec-fetch-site": "none"},
            {"origin": "http://hub.test"},
            {"origin": "https://evil.example", "authorization": "Bearer x"},
        ],
    )
    async def test_our_pages_programs_and_bearers_of_tokens_may_write(
        self, client: Client, headers: dict[str, str]
    ) -> None:
        assert (await client().post("/", headers=headers)).status_code == 200

    async def test_behind_a_proxy_our_origin_is_the_public_address(self, client: Client) -> None:
        proxied = client("https://hub.example", "http://127.0.0.1:8000")
        assert (await proxied.post("/", headers={"origin": "https://hub.example"})).status_code == 200
        assert (await proxied.post("/", headers={"origin": "https://evil.example"})).status_code == 403

    async def test_links_from_elsewhere_may_be_followed(self, client: Client) -> None:
        assert (await client().get("/", headers={"sec-fetch-site": "cross-site"})).status_code == 200

    @pytest.mark.parametrize("given", [None, "", "wrong", "tokem", "tökén", "token "])
    def test_a_form_without_its_sessions_token_is_refused(self, given: str | None) -> None:
        with pytest.raises(Refusal) as caught:
            check_csrf(actor("token"), given)
        assert caught.value.status == 403

    def test_the_token_of_the_session_is_accepted_and_bearers_need_none(self) -> None:
        check_csrf(actor("token"), "token")
        check_csrf(actor(None), None)


def actor(csrf: str | None) -> Actor:
    return Actor("user", "1", "X", "clinician", "Practitioner/x", ("Practitioner/x",), None, csrf)


class TestLimits:
    async def test_a_body_within_the_limit_passes(self, client: Client) -> None:
        assert (await client().post("/", content=b"x" * LIMIT)).json()["bytes"] == LIMIT

    async def test_a_larger_body_is_refused_before_it_is_read(self, client: Client) -> None:
        answer = await client().post("/fhir/Patient", content=b"x" * (LIMIT + 1))
        assert answer.status_code == 413
        assert answer.json()["issue"][0]["code"] == "too-long"
        assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"

    async def test_a_larger_body_without_a_length_is_stopped_on_the_way(self, client: Client) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 10_000

        answer = await client().post("/", content=pieces())
        assert answer.status_code == 413
        assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_gzip_arrives_unpacked(self, client: Client) -> None:
        packed = gzip.compress(b"hello " * 1000)
        answer = (await client().post("/", content=packed, headers={"content-encoding": "gzip"})).json()
        assert answer == answer | {"bytes": 6000, "head": "hello hello hello he", "encoding": None}

    async def test_several_gzip_members_are_one_body(self, client: Client) -> None:
        packed = gzip.compress(b"one ") + gzip.compress(b"two")
        answer = await client().post("/", content=packed, headers={"content-encoding": "gzip"})
        assert answer.json()["head"] == "one two"

    async def test_an_empty_gzip_body_is_empty(self, client: Client) -> None:
        answer = await client().post("/", content=gzip.compress(b""), headers={"content-encoding": "gzip"})
        assert answer.json()["bytes"] == 0

    async def test_a_gzip_bomb_is_refused_with_bounded_memory(self, client: Client) -> None:
        bomb = gzip.compress(b"\0" * 50_000_000)
        assert len(bomb) < LIMIT
        sender = client()
        tracemalloc.start()
        try:
            answer = await sender.post("/", content=bomb, headers={"content-encoding": "gzip"})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.status_code == 413
        assert peak < 5_000_000

    async def test_a_stream_has_no_limit_in_all_but_comes_in_small_pieces(self, client: Client) -> None:
        packed = gzip.compress(b"x" * 3_000_000)
        answer = (await client().post("/stream", content=packed, headers={"content-encoding": "gzip"})).json()
        assert answer["bytes"] == 3_000_000
        assert answer["largest"] <= 256 * 1024
        assert (await client().post("/stream", content=b"x" * 300_000)).json()["bytes"] == 300_000

    @pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"cut off " * 100)[:-10], b"", b"\x1f\x8b"])
    async def test_broken_gzip_is_refused(self, client: Client, body: bytes) -> None:
        answer = await client().post("/", content=body, headers={"content-encoding": "gzip"})
        assert answer.status_code == 400

    async def test_gzip_split_anywhere_gives_the_same(self, client: Client) -> None:
        packed = gzip.compress(bytes(range(256)) * 200)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(packed), 7):
                yield packed[start : start + 7]

        answer = await client().post("/", content=pieces(), headers={"content-encoding": "gzip"})
        assert answer.json()["bytes"] == 51_200

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
    async def test_an_unknown_encoding_is_refused(self, client: Client, encoding: str) -> None:
        answer = await client().post("/", content=b"x", headers={"content-encoding": encoding})
        assert answer.status_code == 415

    async def test_a_length_that_is_no_number_does_not_open_the_door(self, client: Client) -> None:
        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http",
            "headers": [(b"host", b"hub.test"), (b"content-length", b"-5")], "server": ("hub.test", 80),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * (LIMIT + 1), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app()(scope, receive, send)
        assert sent[0]["status"] == 413


class TestErrors:
    """An error's message may quote a record: it reaches neither the caller nor the log of the server."""

    async def test_what_no_handler_expected_is_answered_and_goes_no_further(self) -> None:
        seen: list[Exception] = []

        async def broken(request: Request) -> Response:
            raise LookupError("about Xanthippe")

        async def answer(request: Request, error: Exception) -> Response:
            seen.append(error)
            return PlainTextResponse("sorry", 500)

        inner = Starlette(
            routes=[Route("/", broken)],
            middleware=[Middleware(Security, base_url=None, max_body_bytes=LIMIT, failed=answer)],
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://hub.test") as client:
            got = await client.get("/")
        assert (got.status_code, got.text) == (500, "sorry")
        assert got.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert [type(error) for error in seen] == [LookupError]

    async def test_an_answer_that_broke_off_says_nothing_of_what_it_was_about(self) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            raise LookupError("about Xanthippe")

        async def half(request: Request) -> Response:
            return StreamingResponse(pieces())

        async def answer(request: Request, error: Exception) -> Response:
            return PlainTextResponse("sorry", 500)

        inner = Starlette(
            routes=[Route("/", half)],
            middleware=[Middleware(Security, base_url=None, max_body_bytes=LIMIT, failed=answer)],
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://hub.test") as client:
            with pytest.raises(BrokenOff) as caught:
                await client.get("/")
        assert "Xanthippe" not in "".join(traceback.format_exception(caught.value))

    def test_the_log_holds_kind_and_place_without_the_message(self) -> None:
        def fails() -> None:
            try:
                raise KeyError("about Xanthippe")
            except KeyError as error:
                raise LookupError("also about Xanthippe") from error

        with pytest.raises(LookupError) as caught:
            fails()
        logged = faults.told(caught.value)
        assert logged["kind"] == "builtins.LookupError"
        assert logged["because"] == "builtins.KeyError"
        assert logged["where"][-1].endswith(" fails")
        assert "tests/test_hub_security.py:" in logged["where"][-1]
        assert "Xanthippe" not in str(logged)


async def test_what_is_not_http_passes_untouched() -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Security(inner, base_url=None, max_body_bytes=1)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
