"""gzip and zstd, in and out: bounded, split anywhere, and never for a page that holds secrets."""

import gzip
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from rest import Fresh, Rest, running
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router

from fhir.wire import decode, encode
from hub.packing import Packing, chosen
from hub.security import Security

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1_000_000
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
UNPACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstd.decompress}
BEARER = {"authorization": "Bearer x"}


async def _count(request: Request) -> Response:
    sizes = [len(piece) async for piece in request.stream()]
    seen = {"bytes": sum(sizes), "largest": max(sizes), "encoding": request.headers.get("content-encoding")}
    return Response(encode(seen))


async def _text(request: Request) -> Response:
    query = request.query_params
    body, kind = b"a" * int(query.get("size", 5000)), query.get("type", "application/fhir+json")
    headers = {"etag": '"1"'} | ({"content-encoding": "gzip"} if "packed" in query else {})
    return Response(body, int(query.get("status", 200)), headers, media_type=kind)


async def _stream(request: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(2000):
            yield b'{"line":%d}\n' % number

    return StreamingResponse(lines(), media_type="application/fhir+ndjson")


async def _failed(request: Request, error: Exception) -> Response:
    raise error


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    paths = {"/count": _count, "/fhir": _text, "/fhir/stream": _stream, "/page": _text, "/static/x": _text}
    app: Any = Router(routes=[Route(path, one, methods=["GET", "POST"]) for path, one in paths.items()])
    app = Security(Packing(app), base_url=None, max_body_bytes=LIMIT, streams=(), failed=_failed)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as made:
        yield made


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
class TestBodies:
    async def send(self, client: httpx.AsyncClient, encoding: str, content: Any) -> httpx.Response:
        return await client.post("/count", content=content, headers={"content-encoding": encoding})

    async def test_arrive_unpacked(self, client: httpx.AsyncClient, encoding: str) -> None:
        answer = await self.send(client, encoding, PACKERS[encoding](b"hello " * 1000))
        assert answer.json()["bytes"] == 6000
        assert answer.json()["encoding"] is None

    async def test_may_be_empty_or_in_several_frames(self, client: httpx.AsyncClient, encoding: str) -> None:
        pack = PACKERS[encoding]
        assert (await self.send(client, encoding, pack(b""))).json()["bytes"] == 0
        assert (await self.send(client, encoding, pack(b"one") + pack(b"") + pack(b"two"))).json()["bytes"] == 6

    async def test_may_be_split_anywhere(self, client: httpx.AsyncClient, encoding: str) -> None:
        packed = PACKERS[encoding](bytes(range(256)) * 2000) + PACKERS[encoding](b"end")

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(packed), 7):
                yield packed[start : start + 7]

        answer = (await self.send(client, encoding, pieces())).json()
        assert answer["bytes"] == 512_003
        assert answer["largest"] <= 256 * 1024

    async def test_a_bomb_is_refused_with_bounded_memory(self, client: httpx.AsyncClient, encoding: str) -> None:
        bomb = PACKERS[encoding](b"\0" * 50_000_000)
        assert len(bomb) < LIMIT
        tracemalloc.start()
        try:
            answer = await self.send(client, encoding, bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.status_code == 413
        assert peak < 5_000_000

    @pytest.mark.parametrize("cut", [0, 2, 20])
    async def test_broken_ones_are_refused(self, client: httpx.AsyncClient, encoding: str, cut: int) -> None:
        assert (await self.send(client, encoding, b"not packed")).status_code == 400
        assert (await self.send(client, encoding, PACKERS[encoding](b"cut off " * 100)[:cut])).status_code == 400


async def test_a_zstd_frame_may_not_ask_for_much_memory(client: httpx.AsyncClient) -> None:
    wide = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    packer = zstd.ZstdCompressor(options=wide)
    packed = packer.compress(b"x" * 1000) + packer.flush()
    answer = await client.post("/count", content=packed, headers={"content-encoding": "zstd"})
    assert answer.status_code == 400


class TestAnswers:
    @pytest.mark.parametrize(
        ("accept", "encoding"),
        [
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip;q=1.0, zstd;q=0.5", "gzip"),
            ("*", "zstd"),
            ("*, zstd;q=0", "gzip"),
            ("GZIP", "gzip"),
            ("br", None),
            ("", None),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
        ],
    )
    def test_the_encoding_is_the_one_liked_best(self, accept: str, encoding: str | None) -> None:
        assert chosen(accept) == encoding

    @pytest.mark.parametrize("encoding", ["gzip", "zstd"])
    @pytest.mark.parametrize("path", ["/fhir", "/static/x", "/fhir/stream"])
    async def test_are_packed_and_whole(self, client: httpx.AsyncClient, path: str, encoding: str) -> None:
        plain = await client.get(path, headers={"accept-encoding": "identity", **BEARER})
        async with client.stream("GET", path, headers={"accept-encoding": encoding, **BEARER}) as answer:
            raw = b"".join([piece async for piece in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == encoding
        assert "Accept-Encoding" in answer.headers["vary"]
        assert "Accept-Encoding" in plain.headers["vary"]
        assert UNPACKERS[encoding](raw) == plain.content
        assert len(raw) < len(plain.content)
        if "stream" not in path:
            assert answer.headers["content-length"] == str(len(raw))
            assert (plain.headers["etag"], answer.headers["etag"]) == ('"1"', 'W/"1"')

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/page", BEARER),
            ("/fhir", {"cookie": "carehub_session=x"}),
            ("/fhir?size=900", BEARER),
            ("/fhir?status=206", BEARER),
            ("/fhir?type=image/png", BEARER),
            ("/fhir?type=text/event-stream", BEARER),
            ("/fhir", {**BEARER, "accept-encoding": "br"}),
        ],
    )
    async def test_are_left_as_they_are(self, client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
        answer = await client.get(path, headers={"accept-encoding": "gzip, zstd", **headers})
        assert "content-encoding" not in answer.headers

    async def test_are_not_packed_twice(self, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/fhir?packed=1", headers={"accept-encoding": "zstd", **BEARER}) as answer:
            assert answer.headers["content-encoding"] == "gzip"

    async def test_of_the_service_itself(self, rest: Rest) -> None:
        for encoding in ("gzip", "zstd"):
            headers = {"accept-encoding": encoding, **BEARER}
            async with rest.client.stream("GET", "/fhir/metadata", headers=headers) as answer:
                raw = b"".join([piece async for piece in answer.aiter_raw()])
            assert answer.headers["content-encoding"] == encoding
            assert answer.headers["vary"] == "Accept, Accept-Encoding"
            assert decode(UNPACKERS[encoding](raw))["resourceType"] == "CapabilityStatement"
            made = await rest.system(
                "POST", "/Patient", PACKERS[encoding](b'{"resourceType":"Patient"}'), {"content-encoding": encoding}
            )
            assert made.status_code == 201
