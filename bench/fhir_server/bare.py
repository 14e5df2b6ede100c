"""The ceiling of every HTTP figure: an endpoint that does nothing, served by the same granian with the same settings.

`python -m bench.fhir_server.bare PORT WORKERS`; it answers what it is started with on standard input.
"""

import sys
from typing import Any

from hub import server

BODY = b""


def create() -> Any:
    headers = [(b"content-type", b"application/fhir+json"), (b"content-length", str(len(BODY)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            continue
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    return app


if __name__ == "__main__":
    from bench.fhir_server import bare

    bare.BODY = sys.stdin.buffer.read()
    server.APP = "bench.fhir_server.bare:create"
    server.run("127.0.0.1", int(sys.argv[1]), int(sys.argv[2]))
