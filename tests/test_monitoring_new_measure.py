"""Adding a measure is one entry of the table: with one more, readings of it are accepted, projected, limited, charted,
asked for, and written into the clinical rules."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from monitoring import measures

ENTRY = """
    Measure(
        key="grip",
        name="Grip strength",
        plain="grip strength",
        codes=_loinc("83174-3"),
        unit="kg",
        shown="kg",
        spellings={"kg": "kg"},
        plausible=(1, 90),
        decimals=1,
        source="an example of this test",
    ),
"""

PROGRAM = """
import asyncio, sys, types
from datetime import UTC, datetime, timedelta
from pathlib import Path

path, url, entry = sys.argv[1:]
text = Path(path).read_text()
assert text.count("_TABLE = (\\n") == 1
module = types.ModuleType("monitoring.measures")
module.__file__ = path
sys.modules["monitoring.measures"] = module
exec(compile(text.replace("_TABLE = (\\n", "_TABLE = (\\n" + entry), path, "exec"), module.__dict__)

import factories
from hub import asked, flows
from hub.db import Database
from hub.identity import Actor
from hub.pages import monitoring as page, trends
from hub.pages.period import period
from monitoring import rulebook
from monitoring.limits import Limits, Order

NOW = datetime.now(UTC)

async def main():
    database = Database(url)
    async with database.transaction() as tx:
        hub = await factories.organisation(tx)
        patient = await factories.patient(tx, hub=hub)
        await factories.team(tx, patient, {"Practitioner/doc": "158965000"}, hub=hub)
        doctor = Actor("user", "d", "Doc", "clinician", "Practitioner/doc", ("Practitioner/doc",), hub)
        own = Order("grip-order", patient, "grip", Limits(low_red=12.0), None, 24.0, doctor.reference, "frail",
                    NOW.date() + timedelta(days=30))
        await flows.set_limits(tx, doctor, own)
        await factories.write(tx, {
            "resourceType": "Observation", "status": "final", "subject": {"reference": f"Patient/{patient}"},
            "code": {"coding": [{"system": "http://loinc.org", "code": "83174-3"}]},
            "effectiveDateTime": (NOW - timedelta(minutes=5)).isoformat(),
            "valueQuantity": {"value": 11, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}})
        rows = await (await tx.pg.execute("SELECT measure, value, quality FROM reading")).fetchall()
        assert rows == [("grip", 11.0, "ok")], rows
        rows = await (await tx.pg.execute("SELECT rule, severity FROM flag")).fetchall()
        assert rows == [("limit-grip", 3)], rows
        charts = await trends.charts_of(tx, doctor, patient, period({}, NOW), NOW)
        assert "grip" in str(charts), charts
        (one,) = await asked.asked(tx.pg, patient, NOW)
        assert one.order.measure == "grip" and one.last is not None
    await database.close()
    assert "grip" in page.CHOICES
    assert "| `grip` | Grip strength | LOINC 83174-3 | `kg` |" in rulebook.render()

asyncio.run(main())
"""


def test_one_entry_is_enough(fresh_url: Callable[[], str], tmp_path: Path) -> None:
    program = tmp_path / "one_more.py"
    program.write_text(PROGRAM)
    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, str(program), str(measures.__file__), fresh_url(), ENTRY],
        capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": f"{tests}:{Path(tests).parent}", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
