"""`/live`: server-sent events for an open board."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from hub.pages.door import demand, runtime, signed_in
from hub.pages.errors import PageRoute

router = APIRouter(route_class=PageRoute)


@router.get("/live")
async def live(request: Request) -> Response:
    """Says `board` whenever the reader's board should look again; the words come from the board's own address."""
    actor = await signed_in(request)
    demand(actor, "board.today")
    return StreamingResponse(
        runtime(request).live.events(actor.hub_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
