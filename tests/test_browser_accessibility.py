"""No serious violation on any page (axe), no sideways scrolling on a phone or at 400 % zoom."""

import os
from typing import Any

import pytest
from browsing import AXE, DESK, PHONE, Service, held

STAFF = (
    "/today", "/today?scope=hub", "/mdt", "/patients", "/tasks", "/patients/{}", "/devices",
    "/devices/new", "/devices/{device}", "/devices/{device}/integration",
    "/patients/{}/plan", "/patients/{}/plan/edit", "/patients/{}/plan/versions", "/patients/{}/readings",
    "/patients/{}/readings/upload",
    "/patients/{}/rules", "/rules", "/patients/{}/team", "/patients/{}/approval", "/emergency",
    "/hours", "/notices", "/notices?show=all", "/reports/alerts", "/rules/news2/replay", "/nowhere",
)  # fmt: skip
CLINICIAN = (
    "/mdt",
    "/rules",
    "/rules/new",
    "/patients/{}/rules",
    "/patients/{}/limits/spo2",
    "/patients/{}/pregnancy",
    "/patients/{}/monitoring",
    "/patients/{}/monitoring/weight",
    "/patients/{}/questions/phq-9",
    "/flags/{flag}",
)
OWN = ("/me", "/me/plan", "/me/readings", "/me/looked", "/notices", "/me/questions/ucla-3", "/me/upload")
PAGES: dict[str | None, tuple[str, ...]] = {
    None: ("/sign-in", "/sign-in?said=signed-out"),
    "coordinator": STAFF,
    "clinician": CLINICIAN,
    "patient": OWN,
    "carer": OWN[:3],
    "governance": ("/audit", "/emergencies"),
    "admin": ("/hours",),
}


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.is_file():
        remedy = "axe-core is not installed: `npm ci` in the project's root"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    return AXE.read_text()


async def addresses(service: Service) -> dict[str, str]:
    person = await held(service, 0)
    flag = await service.one("SELECT id FROM flag WHERE patient_id = %s LIMIT 1", person)
    if flag is None:
        await service.post(person, "59408-5", 88, "%")
        flag = await service.one("SELECT id FROM flag WHERE patient_id = %s LIMIT 1", person)
    return {"person": person, "flag": flag, "device": service.device_keys[person].partition(" ")[0]}


@pytest.mark.parametrize("username", PAGES, ids=str)
async def test_axe_finds_no_serious_violation(service: Service, axe: str, username: str | None) -> None:
    known = await addresses(service)
    serious = []
    # axe is put into the page by the test, which the page's own policy rightly forbids.
    async with service.signed_in(
        username, PHONE if username in ("patient", "carer") else DESK, bypass_csp=True
    ) as page:
        for address in PAGES[username]:
            await page.goto(address.format(known["person"], flag=known["flag"], device=known["device"]))
            await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            await page.evaluate(axe)
            found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            serious += [
                (address, violation["id"], violation["help"], [node["html"][:160] for node in violation["nodes"][:3]])
                for violation in found["violations"]
                if violation["impact"] in ("serious", "critical")
            ]
    assert serious == []


@pytest.mark.parametrize("username", ["coordinator", "patient"])
async def test_nothing_scrolls_sideways_on_a_phone(service: Service, username: str) -> None:
    """320 CSS pixels are also what 400 % zoom leaves of a 1280 px screen."""
    known = await addresses(service)
    async with service.signed_in(username, {"width": 320, "height": 640}) as page:
        for address in STAFF if username == "coordinator" else OWN:
            await page.goto(address.format(known["person"], flag=known["flag"], device=known["device"]))
            assert await page.evaluate("document.documentElement.scrollWidth") <= 320, address


async def test_the_person_stays_in_sight(service: Service) -> None:
    known = await addresses(service)
    async with service.signed_in("coordinator") as page:
        await page.goto(f"/patients/{known['person']}/readings")
        await page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        top = await page.locator(".hub-person").evaluate("(one) => one.getBoundingClientRect().top")
        assert top >= 0
