"""The pages: HTML for people, at the root of the service. `register` adds them to the application."""

from fastapi import FastAPI

from hub.pages import live, mdt, sign_in, today

ROUTERS = (sign_in.router, today.router, mdt.router, live.router)


def register(app: FastAPI) -> None:
    """Add every page. The application mounts `/assets` and `/static` itself."""
    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)
