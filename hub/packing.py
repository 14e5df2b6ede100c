"""Packed bodies: gzip and zstd, unpacked as they come in, packed as they go out.

Answers are packed below `/fhir` and for static files only. A page holds secrets (its form token, the person's record)
beside words of the address; packing both together would let somebody who watches the length of answers guess them
(BREACH). For the same reason what a browser's session asks of `/fhir` is answered as it is.
"""

import asyncio
import sys
import zlib
from functools import lru_cache
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir.outcome import Refusal, refuse

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# How much of a packed body is unpacked at a time: a bomb never stands in memory.
PIECE = 256 * 1024
# 8 MB, the most that RFC 9659 lets a sender of zstd count on: a frame may ask for gigabytes.
_WINDOW_LOG = 23
# Bytes of an answer that are worth packing, and beyond which it is done in a thread.
_WORTH, _LARGE = 1_000, 256 * 1024
_GZIP_LEVEL = 5

_PACKABLE = ("application/fhir+", "application/json", "application/xml", "application/ndjson", "application/javascript",
             "text/css", "text/html", "text/javascript", "text/plain", "image/svg+xml")  # fmt: skip
_NO_BODY = frozenset({204, 206, 304})
_STATIC = ("/static/", "/assets/")


class Unpacker(Protocol):
    """Takes packed bytes, gives at most PIECE unpacked ones at a time. Raises ValueError for what is not packed so."""

    def feed(self, packed: bytes) -> None: ...

    def take(self) -> bytes: ...

    @property
    def hungry(self) -> bool:
        """Whether there is nothing to take before more is fed."""

    @property
    def whole(self) -> bool:
        """Whether what was fed ends where a member or frame ends."""


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._packed = b""

    def feed(self, packed: bytes) -> None:
        self._packed = packed

    def take(self) -> bytes:
        if self._member.eof:  # gzip allows several members one after the other
            self._member = zlib.decompressobj(wbits=31)
        try:
            piece = self._member.decompress(self._packed, PIECE)
        except zlib.error as error:
            raise ValueError from error
        self._packed = self._member.unused_data or self._member.unconsumed_tail
        return piece

    @property
    def hungry(self) -> bool:
        return not self._packed

    @property
    def whole(self) -> bool:
        return self._member.eof and not self._packed


class _Zstd:
    def __init__(self) -> None:
        self._frame = _frame()
        self._packed = b""

    def feed(self, packed: bytes) -> None:
        self._packed = packed

    def take(self) -> bytes:
        if self._frame.eof:
            self._frame = _frame()
        try:
            piece = self._frame.decompress(self._packed, PIECE)
        except zstd.ZstdError as error:
            raise ValueError from error
        self._packed = self._frame.unused_data
        return piece

    @property
    def hungry(self) -> bool:
        return not self._packed and (self._frame.eof or self._frame.needs_input)

    @property
    def whole(self) -> bool:
        return self._frame.eof and not self._packed


def _frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


_UNPACKERS: dict[str, type[Unpacker]] = {"gzip": _Gzip, "x-gzip": _Gzip, "zstd": _Zstd}


def unpacked(scope: Scope, receive: Receive, limit: int | None) -> Receive:
    """*receive* with the body unpacked as its Content-Encoding says; the handlers see no such header.

    Refusal 415 for an encoding that is not known, later 400 for a body that is not packed so, 413 for more than *limit*
    unpacked bytes, however small the packed body is.
    """
    encoding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return receive
    if encoding not in _UNPACKERS:
        raise refuse(415, "not-supported", f"Content-Encoding {encoding[:40]!r} is not known; gzip and zstd are.")
    packed = (b"content-encoding", b"content-length")
    scope["headers"] = [header for header in scope["headers"] if header[0] not in packed]
    return _Unpacked(receive, _UNPACKERS[encoding](), encoding, limit)


def too_large(limit: int) -> Refusal:
    return refuse(413, "too-long", f"The body is larger than {limit:,} bytes.")


class _Unpacked:
    """Gives a packed body piece by piece, and stops at the limit."""

    def __init__(self, receive: Receive, unpacker: Unpacker, encoding: str, limit: int | None) -> None:
        self._receive = receive
        self._unpacker = unpacker
        self._encoding = encoding
        self._limit = limit
        self._total = 0
        self._more = True

    async def __call__(self) -> Message:
        while True:
            if not self._unpacker.hungry:
                piece = self._take()
                unfinished = self._more or not self._unpacker.whole
                if piece or not unfinished:
                    return {"type": "http.request", "body": piece, "more_body": unfinished}
            elif self._more:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._unpacker.feed(message.get("body", b""))
                self._more = message.get("more_body", False)
            else:
                if not self._unpacker.whole:
                    raise refuse(400, "incomplete", f"The {self._encoding} body ends too early.")
                return {"type": "http.request", "body": b"", "more_body": False}

    def _take(self) -> bytes:
        try:
            piece = self._unpacker.take()
        except ValueError as error:
            text = f"The body is not {self._encoding}, though Content-Encoding says so."
            raise refuse(400, "structure", text) from error
        self._total += len(piece)
        if self._limit is not None and self._total > self._limit:
            raise too_large(self._limit)
        return piece


class Packing:
    """ASGI middleware: answers to whoever says in Accept-Encoding that they can be packed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted = _accepted(scope) if scope["type"] == "http" else None
        if accepted is None:
            await self._app(scope, receive, send)
            return
        # The server would send a file by itself, unpacked.
        extensions = {name: one for name, one in scope.get("extensions", {}).items() if name != _FILE}
        await self._app({**scope, "extensions": extensions}, receive, _Packed(send, chosen(accepted)))


_FILE = "http.response.pathsend"


def _accepted(scope: Scope) -> str | None:
    """The Accept-Encoding of a request whose answer may be packed; of a static file's always, since caches keep it."""
    path: str = scope["path"]
    static = path.startswith(_STATIC)
    if scope["method"] == "HEAD" or not (static or path.startswith("/fhir")):
        return None
    accepted, signed = "" if static else None, static
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            accepted = value.decode("latin-1")
        elif name == b"authorization":
            signed = True
    return accepted if signed else None


@lru_cache(128)
def chosen(accept_encoding: str) -> str | None:
    """zstd or gzip, whichever *accept_encoding* likes better; None for neither."""
    qualities: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, option = part.replace(" ", "").partition(";q=")
        try:
            qualities[name] = float(option or 1)
        except ValueError:
            qualities[name] = 0.0
    found = {name: qualities.get(name, qualities.get("*", 0.0)) for name in ("zstd", "gzip")}
    best = max(found, key=lambda name: found[name])
    return best if found[best] > 0 else None


class _Packed:
    """Holds the start of an answer until it is known whether its body is worth packing."""

    def __init__(self, send: Send, encoding: str | None) -> None:
        self._send = send
        self._encoding = encoding
        self._start: Message | None = None
        self._packer: _Packer | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            headers = MutableHeaders(raw=start["headers"])
            headers.add_vary_header("Accept-Encoding")
            if self._encoding is not None and _worth_packing(start["status"], headers, message):
                self._packer = _Packer(self._encoding)
                message = await self._piece(message)
                headers["content-encoding"] = self._encoding
                del headers["content-length"]
                if not message.get("more_body", False):
                    headers["content-length"] = str(len(message["body"]))
                if headers.get("etag", "").startswith('"'):  # other bytes, the same thing
                    headers["etag"] = f"W/{headers['etag']}"
            await self._send(start)
        elif self._packer is not None:
            message = await self._piece(message)
        await self._send(message)

    async def _piece(self, message: Message) -> Message:
        assert self._packer is not None
        body, last = message.get("body", b""), not message.get("more_body", False)
        if len(body) > _LARGE:
            packed = await asyncio.to_thread(self._packer.pack, body, last)
        else:
            packed = self._packer.pack(body, last)
        return {**message, "body": packed}


def _worth_packing(status: int, headers: Headers, message: Message) -> bool:
    if message["type"] != "http.response.body" or status in _NO_BODY or "content-encoding" in headers:
        return False
    large = message.get("more_body", False) or len(message.get("body", b"")) >= _WORTH
    return large and headers.get("content-type", "").startswith(_PACKABLE)


class _Packer:
    """Packs a body in one piece or several; each piece can be read as soon as it arrives."""

    def __init__(self, encoding: str) -> None:
        self._zstd = zstd.ZstdCompressor() if encoding == "zstd" else None
        self._gzip = zlib.compressobj(_GZIP_LEVEL, wbits=31)

    def pack(self, body: bytes, last: bool) -> bytes:
        if self._zstd is not None:
            return self._zstd.compress(body, self._zstd.FLUSH_FRAME if last else self._zstd.FLUSH_BLOCK)
        return self._gzip.compress(body) + self._gzip.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
