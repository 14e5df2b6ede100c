"""The application: one process of the service, made by `create_app`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from fhir.outcome import Refusal, refuse
from hub import (
    audit,
    bulk_export,
    bulk_import,
    fhir_formats,
    fhir_routes,
    identity,
    ingest,
    jobs,
    live_rules,
    oauth,
    openapi,
    pages,
    trials,
    upkeep,
)
from hub.audit import REQUEST_ID, ReadLog
from hub.db import Database, database_url
from hub.faults import told
from hub.fhir_http import refused
from hub.ingest import Submissions
from hub.live import Live
from hub.lookups import Lookups
from hub.packing import Packing
from hub.pages.errors import error_page
from hub.runtime import Runtime
from hub.security import Security
from hub.settings import Settings, signing_secret
from hub.settings import settings as read_settings
from hub.subscriptions import courier, websocket
from hub.subscriptions.targets import Policy
from hub.writes import Writes

HERE = Path(__file__).parent
WORKS: Mapping[str, jobs.Work] = {"export": bulk_export.run, "import": bulk_import.run, trials.KIND: trials.run}
log = structlog.get_logger()


class CareHub(FastAPI):
    """The service. Requests for resources reach *fhir* before the framework's own layers and routes, which they have no
    use for and which would take as long as a reading does from here to its commit."""

    fhir: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A path that goes on with a capital letter names a type; operations and the rest have routes of their own.
        if scope["type"] == "http" and scope["path"].startswith("/fhir/") and scope["path"][6:7].isupper():
            scope["app"] = self
            await self.fhir(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None) -> CareHub:
    """The service as an ASGI application. It uses the database of *settings*, or of the environment."""
    chosen = settings or read_settings()
    policy = Policy.of(chosen.subscription_targets or "", chosen.subscription_http, chosen.subscription_networks or "")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            url = stack.enter_context(database_url(chosen))
            database = Database(url, chosen.pool_size, chosen.statement_timeout_ms)
            live = Live(url, partial(identity.forget, database), partial(live_rules.changed, database))
            gathering = Submissions(database), ReadLog(database), live, Lookups(database), Writes(database)
            runtime = Runtime(chosen, database, signing_secret(chosen), *gathering)
            app.state.runtime = runtime
            app.state.audience = websocket.Audience(database)
            keeping = [
                asyncio.create_task(audit.keep_sealing(database)),
                asyncio.create_task(upkeep.keep(database)),
                asyncio.create_task(courier.keep(database, policy, chosen.base_url)),
                asyncio.create_task(jobs.keep(database, WORKS, runtime.wake)),
            ]
            await live.start()
            try:
                yield
            finally:
                await live.stop()
                await runtime.submissions.close()
                await runtime.lookups.close()
                await runtime.writes.close()
                await runtime.reads.close()
                for task in keeping:
                    task.cancel()
                await asyncio.gather(*keeping, return_exceptions=True)
                await database.close()

    around = [
        Middleware(
            Security,
            base_url=chosen.base_url,
            max_body_bytes=chosen.max_body_bytes,
            streams=(ingest.PATH, bulk_import.PATH),
            failed=_failed,
        ),
        Middleware(Packing),
    ]
    app = CareHub(
        title="Care Hub",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=around,
        exception_handlers=HANDLERS,
    )
    app.add_route("/health", _health, methods=["GET"], include_in_schema=False)
    oauth.add_routes(app)
    ingest.register(app)
    openapi.register(app)
    app.router.routes.append(WebSocketRoute(websocket.PATH, websocket.listen))
    app.fhir = fhir_routes.register(app)
    for layer in (Middleware(ExceptionMiddleware, handlers=HANDLERS), *reversed(around)):
        app.fhir = layer.cls(app.fhir, *layer.args, **layer.kwargs)
    pages.register(app)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.mount("/assets", StaticFiles(directory=HERE / "assets", check_dir=False), name="assets")
    return app


def _is_fhir(request: Request) -> bool:
    return request.url.path == "/fhir" or request.url.path.startswith("/fhir/")


async def _answer(request: Request, refusal: Refusal) -> Response:
    if _is_fhir(request):
        return await fhir_formats.written(refused(refusal), fhir_formats.wanted(request))
    page = error_page(request, refusal.status, refusal.issues[0].diagnostics if refusal.status < 500 else None)
    page.headers.update(refusal.headers)
    return page


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return await _answer(request, error)


async def _overtaken(request: Request, error: Exception) -> Response:
    said = "Someone changed the same record at the same moment, and theirs was kept. Nothing of yours was saved."
    return await _answer(request, refuse(409, "conflict", said))


async def _too_costly(request: Request, error: Exception) -> Response:
    log.warning("statement cancelled", path=request.url.path)
    said = "That took too long and was stopped. Ask for less at a time."
    return await _answer(request, refuse(503, "too-costly", said))


async def _unavailable(request: Request, error: Exception) -> Response:
    log.error("database unavailable", path=request.url.path, kind=type(error).__name__)
    refusal = refuse(503, "transient", "The database does not answer just now. Send it again in a moment.")
    refusal.headers["Retry-After"] = "2"
    return await _answer(request, refusal)


async def _failed(request: Request, error: Exception) -> Response:
    # The page shows the same reference: it leads from the caller's words to this line.
    log.error("unexpected error", path=request.url.path, request_id=REQUEST_ID.get(), **told(error))
    return await _answer(request, refuse(500, "exception", "Something went wrong here; it has been logged."))


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    Refusal: _refused,
    psycopg.errors.DeadlockDetected: _overtaken,
    psycopg.errors.QueryCanceled: _too_costly,
    psycopg.OperationalError: _unavailable,
}


async def _health(request: Request) -> Response:
    """200 when this process can reach the database; says nothing else."""
    try:
        async with request.app.state.runtime.database.transaction() as tx:
            await tx.pg.execute("SELECT 1")
    except psycopg.OperationalError:
        return JSONResponse({"status": "unavailable"}, 503)
    return JSONResponse({"status": "ok"})
