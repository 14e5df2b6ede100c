"""Each role's main journey, clicked through in a real browser on the real service."""

import re

from browsing import PHONE, Service, held, low_oxygen, person_without_plan
from playwright.async_api import Page, expect

from hub import demo


async def said(page: Page, words: str) -> None:
    await expect(page.locator("[role=status]", has_text=words)).to_be_visible()


class TestSignIn:
    async def test_a_page_asks_to_sign_in_and_comes_back(self, service: Service) -> None:
        async with service.signed_in(None) as page:
            await page.goto("/mdt")
            await expect(page).to_have_title(re.compile("Sign in"))
            await page.fill("#username", "clinician")
            await page.fill("#password", demo.PASSWORD)
            await page.click("main button:has-text('Sign in')")
            await expect(page).to_have_url(re.compile("/mdt$"))

    async def test_a_wrong_password_says_what_to_do_and_keeps_the_name(self, service: Service) -> None:
        async with service.signed_in(None) as page:
            await page.goto("/sign-in?back=//elsewhere.example")
            await page.fill("#username", "coach")
            await page.fill("#password", "wrong")
            await page.click("main button:has-text('Sign in')")
            await expect(page.locator(".nhsuk-error-summary")).to_contain_text("wrong")
            await expect(page.locator("#username")).to_have_value("coach")
            await page.fill("#password", demo.PASSWORD)
            await page.click("main button:has-text('Sign in')")
            await expect(page).to_have_url(re.compile("^" + re.escape(service.address) + "/today"))

    async def test_signing_out_ends_the_session(self, service: Service) -> None:
        async with service.signed_in(None) as page:
            await page.goto("/sign-in")
            await page.fill("#username", "coordinator2")
            await page.fill("#password", demo.PASSWORD)
            await page.click("main button:has-text('Sign in')")
            await page.click("text=Sign out")
            await said(page, "You have signed out")
            await page.goto("/today")
            await expect(page).to_have_url(re.compile("/sign-in"))


class TestCoordinator:
    async def test_acknowledges_a_flag_from_today(self, service: Service) -> None:
        person = await low_oxygen(service, 0, 88)
        async with service.signed_in("coordinator") as page:
            await page.goto("/today?show=red")
            row = page.locator(".hub-row", has=page.locator(f"a[href='/patients/{person}']")).first
            await expect(row).to_contain_text("Oxygen saturation 88 %")
            await row.locator("summary").click()
            await row.locator("textarea").fill("Rang: she is well, clip was cold. Asked her to repeat at noon.")
            await row.locator("button[value=acknowledge]").click()
            await said(page, "Acknowledged")
            await page.goto("/today?show=seen")
            await expect(page.locator(f".hub-row a[href='/patients/{person}']").first).to_be_visible()
            await page.locator(".hub-row a:has-text('Review')").first.click()
            await expect(page.locator("main")).to_contain_text("clip was cold")
            await expect(page.locator("main")).to_contain_text("Acknowledged by")

    async def test_who_comes_second_sees_what_was_done_and_keeps_the_words(self, service: Service) -> None:
        person = await low_oxygen(service, 1, 88)
        flag = await service.one(
            "SELECT id FROM flag WHERE patient_id = %s AND severity = 3 AND state = 'open'", person
        )
        async with service.signed_in("coordinator") as mine, service.signed_in("coordinator2") as theirs:
            await mine.goto(f"/flags/{flag}")
            await theirs.goto(f"/flags/{flag}")
            await theirs.fill("#why", "I am with her now.")
            await theirs.click("button[value=acknowledge]")
            await said(theirs, "Acknowledged")
            await mine.fill("#why", "Left a message on the mobile.")
            await mine.click("button[value=acknowledge]")
            await expect(mine.locator(".nhsuk-error-summary")).to_contain_text("is acknowledged: it cannot become")
            await expect(mine.locator("main")).to_contain_text("I am with her now.")
            await expect(mine.locator("#why")).to_have_value("Left a message on the mobile.")

    async def test_a_task_is_completed_however_overdue(self, service: Service) -> None:
        async with service.signed_in("coordinator") as page:
            await page.goto("/today?show=task")
            before = await page.locator(".hub-row").count()
            assert before > 0
            await page.locator("button[value=complete]").first.click()
            await said(page, "Task marked as done")
            await expect(page.locator(".hub-row")).to_have_count(before - 1)

    async def test_edits_a_plan_and_sees_who_changed_what(self, service: Service) -> None:
        person = await held(service, 1)
        async with service.signed_in("coordinator") as page:
            await page.goto(f"/patients/{person}/plan")
            await page.click("text=Edit the plan")
            await page.fill("#what-matters", "Seeing my grandson sail in June.")
            await page.click("text=Save what matters")
            await said(page, "Plan saved")
            await page.goto(f"/patients/{person}/plan")
            await expect(page.locator("blockquote")).to_have_text("Seeing my grandson sail in June.")
            await page.click("text=All versions")
            newest = page.locator(".hub-section").first
            await expect(newest.locator("ins").first).to_be_visible()
            name = await service.one("SELECT name FROM account WHERE username = 'coordinator'")
            await expect(newest).to_contain_text(name)

    async def test_a_refused_edit_keeps_what_was_typed(self, service: Service) -> None:
        person = await held(service, 1)
        async with service.signed_in("coordinator") as page:
            await page.goto(f"/patients/{person}/plan/edit")
            await page.fill("#what-matters", "x" * 5001)
            await page.click("text=Save what matters")
            await expect(page.locator(".nhsuk-error-summary")).to_contain_text("at most 5000")
            await expect(page.locator("#what-matters")).to_have_value("x" * 5001)

    async def test_finds_a_person_while_typing(self, service: Service) -> None:
        person = await held(service, 0)
        row = "SELECT {} FROM person WHERE patient_id = %s"
        number = await service.one(row.format("nhs_number"), person)
        born = await service.one(row.format("birth_date"), person)
        family = await service.one(row.format("family"), person)
        async with service.signed_in("coordinator") as page:
            await page.goto("/today")
            for typed in (
                f"{number[:3]} {number[3:6]} {number[6:]}",
                f"{born.day}/{born.month}/{born.year}",
                family[:4],
            ):
                await page.fill("#find", "")
                await page.locator("#find").press_sequentially(typed)
                await expect(page.locator(f"#find-answers a[href='/patients/{person}']")).to_be_visible()
            await page.locator("#find").press("ArrowDown")
            await expect(page.locator("#find-answers a").first).to_be_focused()

    async def test_assigns_a_coach_whom_the_person_then_sees(self, service: Service) -> None:
        person = "person-000001"
        coach = await service.one("SELECT name FROM account WHERE username = 'coach'")
        async with service.signed_in("coordinator") as page:
            await page.goto(f"/patients/{person}/team")
            await page.get_by_label("Health coach").select_option(coach)
            await page.click("text=Assign health coach")
            await said(page, "Team saved")
        async with service.signed_in("patient", PHONE) as page:
            await page.goto("/me")
            await expect(page.locator(".hub-member", has_text=coach)).to_contain_text("Your health coach")


class TestHazardLostUpdate:
    async def test_two_coordinators_see_both_texts_and_combine_them(self, service: Service) -> None:
        person = await held(service, 2)
        address = f"/patients/{person}/plan/edit"
        async with service.signed_in("coordinator") as mine, service.signed_in("coordinator2") as theirs:
            await mine.goto(address)
            await theirs.goto(address)
            await theirs.fill("#what-matters", "My garden, and the Tuesday club.")
            await theirs.click("text=Save what matters")
            await said(theirs, "Plan saved")
            await mine.fill("#what-matters", "My garden, and being home for Christmas.")
            await mine.click("text=Save what matters")
            await expect(mine.locator("h1")).to_contain_text("changed the plan while you wrote")
            await expect(mine.locator("#theirs-1")).to_contain_text("the Tuesday club")
            await expect(mine.locator("#mine-1")).to_contain_text("home for Christmas")
            await mine.get_by_label("Write a text from the two").check()
            await mine.locator("#text-1").fill("My garden, the Tuesday club, and being home for Christmas.")
            await mine.click("button:has-text('Save')")
            await said(mine, "Plan saved")
            await expect(mine.locator("#what-matters")).to_have_value(
                "My garden, the Tuesday club, and being home for Christmas."
            )

    async def test_changes_of_different_parts_both_stay(self, service: Service) -> None:
        person = await held(service, 2)
        address = f"/patients/{person}/plan/edit"
        async with service.signed_in("coordinator") as mine, service.signed_in("coordinator2") as theirs:
            await mine.goto(address)
            await theirs.goto(address)
            await theirs.fill("#if-worse", "Ring the hub, then 111.")
            await theirs.click("text=Save what to do")
            await said(theirs, "Plan saved")
            await mine.fill("#new-goal", "I want to bake for the fair.")
            await mine.click("text=Add the goal")
            await expect(mine.locator("main")).to_contain_text("You changed different parts")
            await mine.click("text=Save both")
            await said(mine, "Plan saved")
            await expect(mine.locator("#if-worse")).to_have_value("Ring the hub, then 111.")
            await expect(mine.locator("main")).to_contain_text("I want to bake for the fair.")


class TestClinician:
    async def test_resolves_a_flag_on_the_mdt_board(self, service: Service) -> None:
        person = await low_oxygen(service, 3, 86)
        async with service.signed_in("clinician") as page:
            await page.goto("/mdt")
            row = page.locator(".hub-row", has=page.locator(f"a[href='/patients/{person}']")).first
            await expect(row).to_contain_text("86 %")
            await expect(row.locator("svg.hub-spark")).to_be_visible()
            address = await row.locator("a:has-text('Review')").get_attribute("href")
            await row.locator("a:has-text('Review')").click()
            await expect(page.locator("h1")).to_contain_text("86 %")
            await page.fill("#why", "Seen at home, oxygen 95 % on our own meter; the clip is replaced.")
            await page.select_option("#outcome", "visit")
            await page.click("button[value=resolve]")
            await said(page, "Resolved")
            await expect(page.locator(f"main a[href='{address}']")).to_have_count(0)

    async def test_sets_limits_with_reason_and_review_beside_the_default(self, service: Service) -> None:
        person = await held(service, 3)
        async with service.signed_in("clinician") as page:
            await page.goto(f"/patients/{person}/readings")
            await page.locator("#spo2 a:has-text('Change limits')").click()
            await expect(page.locator("main")).to_contain_text("Default: red at 92 % or less")
            await page.fill("#low_red", "86")
            await page.fill("#low_amber", "88")
            await page.click("text=Look back with these limits")
            await expect(page.locator("#looked-back")).to_contain_text("would have been passed by")
            await expect(page.locator("#low_amber")).to_have_value("88")
            await page.click("text=Save limits")
            await expect(page.locator(".nhsuk-error-summary")).to_contain_text("why")
            await page.fill("#reason", "COPD with hypercapnic failure, target 88 to 92.")
            await page.fill("#review_on", "2031-01-15")
            await page.click("text=Save limits")
            await said(page, "Limits saved")
            await expect(page.locator("#spo2")).to_contain_text("Personal limits: red at 86 % or less")
            await expect(page.locator("#spo2")).to_contain_text("COPD with hypercapnic failure")

    async def test_charts_are_drawn_with_limits(self, service: Service) -> None:
        person = await held(service, 3)
        async with service.signed_in("clinician") as page:
            await page.goto(f"/patients/{person}/readings?range=week")
            await expect(page.locator("#spo2 svg .dots").first).to_be_attached()
            await page.locator("#spo2 summary").first.click()
            await expect(page.locator("#spo2 .hub-table")).to_contain_text("device")

    async def test_approval_comes_before_a_plan(self, service: Service) -> None:
        person = await person_without_plan(service)
        async with service.signed_in("clinician") as page:
            await page.goto(f"/patients/{person}/plan")
            await expect(page.locator("h1")).to_have_text("There is no plan yet")
            await page.click("text=Record approval")
            await page.click("button:has-text('Record approval')")
            await expect(page.locator(".nhsuk-error-summary")).to_contain_text("Choose how")
            await page.get_by_label("By telephone").check()
            await page.click("button:has-text('Record approval')")
            await said(page, "Approval recorded")
            await page.click("text=Start the plan")
            await page.fill("#new-goal", "I want to walk to church.")
            await page.click("text=Add the goal")
            await said(page, "Plan saved")
            await page.fill("#agreed-how", "by telephone")
            await page.click("text=Record the agreement")
            await said(page, "Plan saved")
            await page.click("text=Start the plan")
            await said(page, "Plan saved")
            await expect(page.locator("h1")).to_contain_text("It is active")


class TestCoach:
    async def test_adds_an_action_for_one_of_their_own_people(self, service: Service) -> None:
        person = "person-000001"
        async with service.signed_in("coach") as page:
            await page.goto("/today")
            await expect(page.locator("h1")).to_contain_text("Today")
            await page.goto(f"/patients/{person}/plan/edit")
            await page.fill("#new-what", "Walk to the postbox and back.")
            await page.fill("#new-when", "every morning")
            await page.click("text=Add the action")
            await said(page, "Plan saved")
            await expect(page.locator("main")).to_contain_text("Walk to the postbox and back.")

    async def test_does_not_resolve_flags_or_record_approval(self, service: Service) -> None:
        async with service.signed_in("coach") as page:
            await page.goto("/today")
            await expect(page.locator("button[value=resolve]")).to_have_count(0)
            answer = await page.goto("/patients/person-000001/approval")
            assert answer is not None and answer.status == 403
            await expect(page.locator("h1")).to_have_text("You cannot open this")


class TestPatient:
    async def test_adds_a_reading_on_a_phone_and_hears_at_once(self, service: Service) -> None:
        async with service.signed_in("patient", PHONE) as page:
            await page.goto("/me")
            await page.click("text=Add a reading")
            await page.fill("#reading-peak-flow", "410")
            await page.click("text=Save reading")
            await expect(page.locator("h1")).to_have_text("Received. Thank you.")
            await expect(page.locator("main")).to_contain_text("410 L/min")
            await expect(page.locator("main")).to_contain_text("That does not mean that all is well")
            await page.click("text=Back to my page")
            await expect(page.locator("main")).to_contain_text("410 L/min")

    async def test_hazard_false_reassurance_out_of_hours(self, service: Service) -> None:
        """A red reading says what to do now, by itself, and every page says when readings are looked at."""
        async with service.signed_in("patient", PHONE) as page:
            await page.goto("/me/readings")
            await page.fill("#reading-spo2", "89")
            await page.click("text=Save reading")
            await expect(page.locator(".hub-now")).to_contain_text("999")
            await expect(page.locator("main")).not_to_contain_text("Nothing here asks")
            for address in ("/me", "/me/plan", "/me/readings", "/me/looked"):
                await page.goto(address)
                await expect(page.locator(".hub-worse")).to_contain_text("Call 999")
                await expect(page.locator(".hub-worse")).to_contain_text(
                    "We only look at your readings when we are open"
                )

    async def test_hazard_wrong_unit_or_impossible_value_is_asked_again(self, service: Service) -> None:
        async with service.signed_in("patient", PHONE) as page:
            await page.goto("/me/readings")
            await page.fill("#reading-glucose", "110")
            await page.fill("#reading-weight", "81,5")
            await page.click("text=Save reading")
            await expect(page.locator(".nhsuk-error-summary")).to_contain_text("cannot be right")
            await expect(page.locator("#reading-glucose")).to_have_value("110")
            await expect(page.locator("#reading-weight")).to_have_value("81,5")

    async def test_writes_a_note_and_strikes_through_what_was_typed_wrong(self, service: Service) -> None:
        """Without script too: charts, marks and forms are the server's."""
        async with service.signed_in("patient", PHONE, java_script_enabled=False) as page:
            await page.goto("/me/readings")
            await page.fill("#reading-peak-flow", "140")
            await page.click("text=Save reading")
            await page.goto("/me/readings?range=week")
            await expect(page.locator("#peak-flow svg .dots").first).to_be_attached()
            await page.locator("#peak-flow summary", has_text="reading").first.click()
            row = page.locator("#peak-flow tr", has_text="140 L/min")
            await row.locator("summary").click()
            await row.locator("textarea").fill("It was 410")
            await row.locator("text=Strike through").click()
            await said(page, "Struck through")
            assert "range=week" in page.url
            await expect(page.locator("#peak-flow s", has_text="140 L/min")).to_be_attached()
            await page.locator("#happened summary", has_text="Add a note").click()
            await page.fill("#note-text", "A heavy cold since Monday")
            await page.click("text=Save note")
            await said(page, "Note saved")
            await expect(page.locator("#happened")).to_contain_text("A heavy cold since Monday")
            await expect(page.locator("#pulse a.event--note, #systolic a.event--note").first).to_be_attached()

    async def test_sees_who_has_looked_and_never_another_persons_record(self, service: Service) -> None:
        async with service.signed_in("coordinator") as page:
            await page.goto("/patients/person-000001")
        name = await service.one("SELECT name FROM account WHERE username = 'coordinator'")
        async with service.signed_in("patient", PHONE) as page:
            await page.goto("/me/looked")
            await expect(page.locator(".hub-cards li", has_text=name).first).to_contain_text("ooked at your summary")
            for address in ("/patients/person-000002", "/me?for=person-000002", "/today", "/mdt", "/audit"):
                answer = await page.goto(address)
                assert answer is not None and answer.status in (403, 404), address

    async def test_hears_what_changed_since_the_last_look(self, service: Service) -> None:
        async with service.signed_in("patient", PHONE) as patient, service.signed_in("coordinator") as staff:
            await patient.goto("/me/plan")
            await staff.goto("/patients/person-000001/plan/edit")
            await staff.fill("#new-goal", "I want to sleep through the night.")
            await staff.click("text=Add the goal")
            await said(staff, "Plan saved")
            await patient.goto("/me")
            await expect(patient.locator("main")).to_contain_text("Your plan has changed since you last looked")
            await patient.goto("/me/plan")
            await patient.goto("/me")
            await expect(patient.locator("main")).not_to_contain_text("changed since you last looked")


class TestCarer:
    async def test_sees_the_page_of_whom_they_care_for_only(self, service: Service) -> None:
        async with service.signed_in("carer", PHONE) as page:
            await page.goto("/me")
            await expect(page.locator("h1")).to_contain_text("page")
            await expect(page.locator(".hub-worse")).to_contain_text("111")
            answer = await page.goto("/me/looked")
            assert answer is not None and answer.status == 403
            answer = await page.goto("/me?for=person-000003")
            assert answer is not None and answer.status == 404


class TestGovernance:
    async def test_sees_who_did_what(self, service: Service) -> None:
        async with service.signed_in("coordinator") as page:
            await page.goto("/patients/person-000001/plan")
        name = await service.one("SELECT name FROM account WHERE username = 'coordinator'")
        async with service.signed_in("governance") as page:
            await page.goto("/audit?patient=person-000001")
            await expect(page.locator("tbody tr", has_text=name).first).to_contain_text("plan")
            answer = await page.goto("/patients/person-000001")
            assert answer is not None and answer.status == 403


class TestEveryRole:
    async def test_has_a_first_page(self, service: Service) -> None:
        for one in demo.SIGN_INS:
            async with service.signed_in(one.username) as page:
                answer = await page.goto("/")
                assert answer is not None and answer.status == 200, one.username
                await expect(page.locator(".hub-band")).to_contain_text("Demonstration")


class TestErrors:
    async def test_an_unknown_address_is_a_page_with_a_reference(self, service: Service) -> None:
        async with service.signed_in("coordinator") as page:
            for address in ("/patients/nobody-at-all", "/nowhere", "/flags/none"):
                answer = await page.goto(address)
                assert answer is not None and answer.status == 404
                await expect(page.locator(".hub-reference")).to_be_visible()

    async def test_a_form_of_another_session_saves_nothing(self, service: Service) -> None:
        person = await held(service, 1)
        before = await service.one("SELECT version FROM plan WHERE patient_id = %s", person)
        async with service.signed_in("coordinator") as page:
            await page.goto(f"/patients/{person}/plan/edit")
            await page.evaluate(
                "document.querySelectorAll('[name=csrf]').forEach((field) => { field.value = 'forged'; })"
            )
            await page.fill("#what-matters", "Forged.")
            await page.click("text=Save what matters")
            await expect(page.locator("main")).to_contain_text("nothing was saved")
        assert await service.one("SELECT version FROM plan WHERE patient_id = %s", person) == before


class TestWithoutScript:
    async def test_the_work_can_be_done(self, service: Service) -> None:
        person = await low_oxygen(service, 2, 87)
        async with service.signed_in("coordinator", java_script_enabled=False) as page:
            await page.goto("/today?show=red")
            row = page.locator(".hub-row", has=page.locator(f"a[href='/patients/{person}']")).first
            await row.locator("summary").click()
            await row.locator("textarea").fill("Rang, all well.")
            await row.locator("select[name=outcome]").select_option("phone-call")
            await row.locator("button[value=resolve]").click()
            await said(page, "Resolved")
            await page.fill("#find", "person")
            await page.locator("#find").press("Enter")
            await expect(page.locator("h1")).to_have_text("Patients")


class TestKeyboard:
    async def test_a_person_is_reached_without_a_pointer(self, service: Service) -> None:
        async with service.signed_in("coordinator") as page:
            await page.goto("/today")
            await page.keyboard.press("Tab")
            await expect(page.locator(".nhsuk-skip-link")).to_be_focused()
            await page.keyboard.press("Enter")
            await page.keyboard.press("j")
            first = page.locator(".hub-row__person").first
            await expect(first).to_be_focused()
            await page.keyboard.press("j")
            await expect(page.locator(".hub-row__person").nth(1)).to_be_focused()
            await page.keyboard.press("k")
            await expect(first).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(page).to_have_url(re.compile("/patients/"))
