"""The pages: HTML for people, at the root of the service. `register` adds them to the application."""

from fastapi import FastAPI


def register(app: FastAPI) -> None:
    """Add every page. The application mounts `/assets` and `/static` itself."""
    # Imported here: `hub.app` needs `hub.pages.errors` while the routes below need what `hub.app` imports.
    from hub.pages import (
        approval,
        audit,
        flags,
        limits,
        live,
        mdt,
        me,
        patients,
        plan,
        readings,
        sign_in,
        summary,
        team,
        today,
    )

    for module in (
        sign_in,
        today,
        mdt,
        live,
        flags,
        patients,
        summary,
        plan,
        readings,
        team,
        approval,
        limits,
        me,
        audit,
    ):
        app.include_router(module.router, include_in_schema=False)
