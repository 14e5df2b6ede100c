"""The integration page of a device: its commands are run as they are copied, and what arrives shows by itself."""

import asyncio
import shutil

import pytest
from browsing import Service
from playwright.async_api import Page, expect


async def run(command: str) -> str:
    """What the shell says, as for somebody who pasted the command."""
    bash = shutil.which("bash")
    assert bash is not None
    done = await asyncio.create_subprocess_exec(
        bash, "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await asyncio.wait_for(done.communicate(), 30)
    assert done.returncode == 0, errors.decode()
    return said.decode()


async def commands(page: Page) -> dict[str, str]:
    return {key: await page.locator(f"#command-{key}").inner_text() for key in ("single", "stream", "batch")}


async def test_the_commands_of_the_page_work_as_they_are_and_arrive_live(service: Service) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    device = next(iter(service.device_keys.values())).partition(" ")[0]
    async with service.signed_in("operations") as page:
        await page.goto(f"/devices/{device}/integration")
        for command in (await commands(page)).values():
            assert "401" in (await run(command)).splitlines()[0]  # the placeholder is no key
        await page.get_by_role("button", name="Make a sandbox key").click()
        key = await page.locator("#new-key").inner_text()
        shown = await commands(page)
        assert all(key in one for one in shown.values())
        log = page.locator("#log")
        answers = {name: await run(one) for name, one in shown.items()}
        assert "201 Created" in answers["single"].splitlines()[0]
        assert '"name":"accepted","valueInteger":2' in answers["stream"].replace(" ", "")
        assert answers["batch"].count('"201') == 2
        await expect(log.get_by_text("Stored, a test")).to_have_count(5)
        assert "200 OK" in (await run(shown["single"])).splitlines()[0]
        await run(shown["single"].replace("sandbox-person", "somebody-else"))
        await expect(log).to_contain_text("It names somebody who never held this device.")
    query = "SELECT DISTINCT quality FROM reading WHERE patient_id = 'sandbox-person'"
    assert await service.column(query) == ["sandbox"]
    assert await service.one("SELECT count(*) FROM flag WHERE patient_id = 'sandbox-person'") == 0
