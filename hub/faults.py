"""Errors as the log may hold them: what kind and where, never the message, which may quote a person's record."""

import traceback
from pathlib import Path
from typing import Any

FRAMES = 12
_ROOT = Path(__file__).parents[1]


def told(error: BaseException) -> dict[str, Any]:
    """`{"kind": "builtins.KeyError", "where": ["hub/flows.py:53 write", …], "because": "psycopg.errors.…"}`."""
    kind = type(error)
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    cause = error.__cause__ or error.__context__
    return {
        "kind": f"{kind.__module__}.{kind.__qualname__}",
        "where": [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames],
        **({"because": f"{type(cause).__module__}.{type(cause).__qualname__}"} if cause else {}),
    }


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else "/".join(path.parts[-3:])
