"""`$job/x`: how far a job is, its manifest when it is done, and its files; DELETE ends it and removes what it made.

Only whoever started a job learns anything of it.
"""

from email.utils import format_datetime
from typing import Any

from starlette.responses import Response, StreamingResponse

from fhir.outcome import refuse
from fhir.store import instant
from fhir.wire import encode
from hub import audit, jobs
from hub.fhir_http import answer
from hub.flows import demand
from hub.interactions import Call
from hub.jobs import Job
from hub.pieces import fetched

NDJSON = "application/fhir+ndjson"
MEDIA = (NDJSON, "application/ndjson", "application/x-ndjson")
PERMISSIONS = {"export": "export", "import": "record.import"}


async def carry_out(call: Call) -> Response:
    return await (_remove(call) if call.request.method == "DELETE" else _status(call))


async def _status(call: Call) -> Response:
    """`$job/x` and `$job/x/1`: 202 with X-Progress and Retry-After, 200 with the manifest, or a file."""
    if call.query:
        raise refuse(400, "not-supported", "this address takes no parameters")
    if len(call.path) < 2:
        raise refuse(404, "not-found", "name the job: Content-Location said where it is")
    async with call.runtime.database.transaction() as tx:
        job = await jobs.find(tx, call.actor, call.path[1])
    if job.kind not in PERMISSIONS:
        raise refuse(404, "not-found", f"there is no job {job.id} here: a page shows it")
    demand(call.actor, PERMISSIONS[job.kind])
    if len(call.path) > 2:
        return await _file(call, job, call.path[2])
    if not job.over:
        headers = {"X-Progress": job.progress or job.state, "Retry-After": "2"}
        return answer(202, None, headers)
    result = job.result or {}
    if job.state == "failed":
        return answer(result["status"], result["outcome"])
    headers = {"Expires": format_datetime(job.expires, usegmt=True)}
    return Response(encode(_manifest(call, job, result)), 200, headers, media_type="application/json")


async def _remove(call: Call) -> Response:
    if len(call.path) != 2:
        raise refuse(404, "not-found", "a job is deleted as a whole, at $job/ and its id")
    async with call.runtime.database.transaction() as tx:
        job = await jobs.find(tx, call.actor, call.path[1])
        await jobs.remove(tx, [job.id])
        await audit.record(tx.pg, [audit.entry(call.actor, "job-deleted", detail={"job": job.id, "kind": job.kind})])
    return answer(202)


def _manifest(call: Call, job: Job, result: dict[str, Any]) -> dict[str, Any]:
    """As Bulk Data Access 2.0 has it."""
    where = f"{call.service.base_url}/$job/{job.id}"
    manifest = {
        "transactionTime": result.get("transactionTime", instant(job.created)),
        "request": job.request["url"],
        "requiresAccessToken": True,
        "output": [_listed(where, one) for one in result.get("output", ())],
        "deleted": [_listed(where, one) for one in result.get("deleted", ())],
        "error": [_listed(where, one) for one in result.get("error", ())],
    }
    return manifest | ({"extension": result["counts"]} if "counts" in result else {})


def _listed(where: str, file: dict[str, Any]) -> dict[str, Any]:
    return {"type": file["type"], "url": f"{where}/{file['file']}", "count": file["count"]}


async def _file(call: Call, job: Job, name: str) -> Response:
    result = job.result or {}
    made = (
        [one for kind in ("output", "deleted", "error") for one in result.get(kind, ())] if job.state == "done" else []
    )
    file = next((one for one in made if str(one["file"]) == name), None)
    if file is None:
        raise refuse(404, "not-found", f"the job has no file {name[:20]}")
    await call.runtime.reads.record(
        audit.entry(call.actor, f"{job.kind}-fetched", file["type"], detail={"job": job.id, "shown": file["count"]})
    )
    headers = {"Content-Length": str(file["bytes"]), "Cache-Control": "no-store"}
    if call.request.method == "HEAD":
        return Response(None, 200, headers, media_type=NDJSON)
    content = fetched(call.runtime.database, job.id, file["file"], file["pieces"])
    return StreamingResponse(content, 200, headers, media_type=NDJSON)
