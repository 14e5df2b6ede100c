"""An open board takes in what arrives: without a reload, with an announcement, and nothing moves under the reader."""

import re

from browsing import Service, cleared, held, low_oxygen
from playwright.async_api import expect


class TestLiveBoard:
    async def test_a_new_flag_shows_on_an_open_board_after_a_device_posts(self, service: Service) -> None:
        # Whom the board shows already is not announced as new.
        person = await cleared(service, 0)
        async with service.signed_in("clinician") as page:
            await page.goto("/mdt")
            await expect(page.locator("#live-state")).to_have_text("Live")
            await page.evaluate("window.stayed = true")
            await service.post(person, "8310-5", 41.2, "Cel")
            await service.post(person, "59408-5", 84, "%")
            row = page.locator(".hub-row", has=page.locator(f"a[href='/patients/{person}']"), has_text="84 %")
            await expect(row.first).to_be_visible()
            await expect(page.locator("#arrived")).to_contain_text(re.compile("new", re.IGNORECASE))
            assert await page.evaluate("window.stayed") is True

    async def test_hazard_wrong_patient_nothing_moves_under_the_pointer(self, service: Service) -> None:
        await low_oxygen(service, 1, 90)
        second = await held(service, 2)
        async with service.signed_in("coordinator") as page:
            await page.goto("/today")
            await expect(page.locator("#live-state")).to_have_text("Live")
            await page.locator(".hub-row").first.hover()
            before = await page.locator("#list").inner_text()
            await service.post(second, "59408-5", 82, "%")
            await expect(page.locator("#show-arrived")).to_be_visible()
            await expect(page.locator("#arrived")).to_contain_text("82 %")
            assert await page.locator("#list").inner_text() == before
            await page.mouse.move(5, 5)
            await expect(page.locator(".hub-row--new", has_text="82 %").first).to_be_visible()

    async def test_nothing_moves_under_the_focus_until_the_reader_asks(self, service: Service) -> None:
        await low_oxygen(service, 1, 90)
        second = await held(service, 3)
        async with service.signed_in("coordinator") as page:
            await page.goto("/today")
            await expect(page.locator("#live-state")).to_have_text("Live")
            await page.locator(".hub-row__person").first.focus()
            before = await page.locator("#list").inner_text()
            await service.post(second, "59408-5", 79, "%")
            await expect(page.locator("#show-arrived")).to_be_visible()
            assert await page.locator("#list").inner_text() == before
            await page.locator("#show-arrived").focus()
            await page.keyboard.press("Enter")
            await expect(page.locator("#list")).to_contain_text("79 %")
            await expect(page.locator("#show-arrived")).to_be_hidden()

    async def test_a_reason_half_written_is_kept(self, service: Service) -> None:
        await low_oxygen(service, 0, 89)
        second = await held(service, 3)
        async with service.signed_in("coordinator") as page:
            await page.goto("/today")
            await expect(page.locator("#live-state")).to_have_text("Live")
            row = page.locator(".hub-row", has=page.locator("summary")).first
            await row.locator("summary").click()
            await row.locator("textarea").fill("Half a sen")
            await page.mouse.move(5, 5)
            await service.post(second, "14743-9", 2.5, "mmol/L")
            await expect(page.locator("#show-arrived")).to_be_visible()
            await expect(row.locator("textarea")).to_have_value("Half a sen")

    async def test_the_reader_is_told_when_the_board_is_not_live(self, service: Service) -> None:
        async with service.signed_in("coordinator") as page:
            await page.route("**/live", lambda route: route.abort())
            await page.goto("/today")
            await expect(page.locator("#live-state")).to_contain_text("Not live")
            service.problems.clear()


class TestNotices:
    async def test_the_header_counts_on_an_open_board_and_a_notice_leads_to_its_flag(self, service: Service) -> None:
        person = await cleared(service, 2)
        async with service.signed_in("coordinator") as page:
            await page.goto("/notices")
            if await page.locator("button:has-text('Mark all as read')").count():
                await page.click("button:has-text('Mark all as read')")
            await page.goto("/today")
            await expect(page.locator("#live-state")).to_have_text("Live")
            await service.post(person, "59408-5", 83, "%")
            await expect(page.locator("#notice-count")).to_contain_text("unread")
            await page.click("a.hub-notices")
            await expect(page.locator("#live-state")).to_have_text("Live")
            row = page.locator(".hub-row", has_text="83 %")
            await expect(row.first).to_be_visible()
            await row.first.locator("a.hub-row__person").click()
            await expect(page.locator("h1")).to_contain_text("83 %")
            await page.goto("/notices")
            await expect(page.locator(".hub-row", has_text="83 %")).to_have_count(0)

    async def test_an_open_list_takes_in_what_arrives(self, service: Service) -> None:
        person = await cleared(service, 3)
        async with service.signed_in("coordinator") as page:
            await page.goto("/notices")
            await expect(page.locator("#live-state")).to_have_text("Live")
            await page.mouse.move(5, 5)
            await service.post(person, "59408-5", 77, "%")
            await expect(page.locator(".hub-row--new", has_text="77 %")).to_have_count(1)
