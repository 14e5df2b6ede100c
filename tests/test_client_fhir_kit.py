"""fhir-kit-client, the JavaScript client, run by Node against the running service."""

import os
import subprocess
from pathlib import Path

import pytest
from serving import READINGS, Served, node

HERE = Path(__file__).parent
CHECKOUT = Path(os.environ.get("CAREHUB_CHECKOUT", HERE.parent))
STEPS = ["capability", "security", "versions", "patch", "search", "transaction", "everything", "delete"]


def test_every_step_of_a_javascript_client(served: Served) -> None:
    if not (CHECKOUT / "node_modules" / "fhir-kit-client").is_dir():
        pytest.skip("fhir-kit-client is not there: `make assets` fetches it")
    environment = {
        "PATH": os.environ["PATH"], "CHECKOUT": str(CHECKOUT), "BASE": served.base, "TOKEN": served.system,
        "PERSON": served.person, "READINGS": str(READINGS),
    }  # fmt: skip
    run = subprocess.run(
        [node(), str(HERE / "node" / "fhir-kit-client.mjs")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.split() == STEPS
