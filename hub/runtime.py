"""What one running process holds: made at start-up, reached as `request.app.state.runtime`."""

import asyncio
from dataclasses import dataclass, field

from hub.audit import ReadLog
from hub.db import Database
from hub.ingest import Submissions
from hub.live import Live
from hub.lookups import Lookups
from hub.settings import Settings
from hub.writes import Writes


@dataclass(slots=True)
class Runtime:
    settings: Settings
    database: Database
    secret: bytes
    submissions: Submissions
    reads: ReadLog
    live: Live
    lookups: Lookups
    writes: Writes
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this process has started a job."""
