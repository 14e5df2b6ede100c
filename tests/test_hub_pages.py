"""The pure parts of the pages: words, what the search box understands, trends as SVG, safe addresses, forms by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from starlette.datastructures import FormData

from fhir.outcome import Refusal
from hub import worklist
from hub.boards import Gap, Trend
from hub.identity import Actor
from hub.pages import flags, hand, me, words
from hub.pages.door import Form, local
from hub.pages.mdt import gap_words, main_measure, reason_words, trend_words, with_limits
from hub.pages.patients import listed
from hub.pages.person import Latest
from hub.pages.records import FlagRow
from hub.pages.rendering import PLACES, SAID, asset, environment, frame, render
from hub.pages.search import Found, Wanted, wanted
from hub.pages.sparkline import sparkline
from hub.pages.today import end_of_day
from hub.roles import PERMISSIONS, ROLES
from monitoring.extents import extent
from monitoring.limits import Limits
from monitoring.measures import MEASURES
from monitoring.readings import readings

WINTER = datetime(2026, 11, 21, 8, 12, tzinfo=UTC)
SUMMER = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)
PATIENT = Actor("patient", "a", "Gill Walsh", "patient", "Patient/p1", ("Patient/p1",), csrf="c")


class TestWords:
    @pytest.mark.parametrize(
        ("at", "now", "expected"),
        [
            (WINTER, WINTER, "today 08:12"),
            (WINTER - timedelta(days=1), WINTER, "yesterday 08:12"),
            (WINTER - timedelta(days=3), WINTER, "Wed 18 Nov 08:12"),
            (WINTER - timedelta(days=400), WINTER, "17 Oct 2025 09:12"),
            (SUMMER, SUMMER, "today 00:30"),
            (SUMMER - timedelta(hours=1), SUMMER, "yesterday 23:30"),
            (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), WINTER, "Sun 25 Oct 01:30 BST"),
            (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), WINTER, "Sun 25 Oct 01:30 GMT"),
            (datetime(2026, 10, 25, 2, 0, tzinfo=UTC), WINTER, "Sun 25 Oct 02:00"),
        ],
    )
    def test_hazard_time_zone_times_are_those_of_london(self, at: datetime, now: datetime, expected: str) -> None:
        assert words.when(at, now) == expected

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [(20, "just now"), (720, "12 min ago"), (2 * 3600, "2 h ago"), (47 * 3600, "47 h ago"),
         (3 * 86400, "3 days ago"), (30 * 86400, "4 weeks ago"), (-7200, "in 2 h")],
    )  # fmt: skip
    def test_age(self, seconds: float, expected: str) -> None:
        assert words.ago(WINTER - timedelta(seconds=seconds), WINTER) == expected

    def test_a_day_ends_at_midnight_in_london(self) -> None:
        assert end_of_day(SUMMER) == datetime(2026, 7, 2, 23, tzinfo=UTC)
        assert end_of_day(WINTER) == datetime(2026, 11, 22, tzinfo=UTC)
        # The nights the clocks change are 25 and 23 hours long.
        assert end_of_day(datetime(2026, 10, 24, 23, 30, tzinfo=UTC)) == datetime(2026, 10, 26, tzinfo=UTC)

    def test_who(self) -> None:
        assert words.who(date(1948, 11, 22), "9990123456", WINTER) == "77 · 999 012 3456"
        assert words.born(date(1948, 3, 4), date(2026, 11, 21)) == "4 Mar 1948 (78)"
        assert words.born(None, date(2026, 11, 21)) == "date of birth not known"
        assert words.nhs_number(None) == "no NHS number"

    def test_names(self) -> None:
        assert words.person("Oakes", "Margaret Ann", "Peggy") == "OAKES, Margaret Ann (Peggy)"
        assert words.person("Oakes", "Jim", "Jim") == "OAKES, Jim"
        assert words.initials("Agnieszka Zieliński") == "AZ" and words.initials("Cher") == "C"

    @pytest.mark.parametrize(
        ("hours", "expected"),
        [(24, "One a day"), (8, "3 a day"), (168, "One a week"), (48, "One every 2 days"), (9, "One every 9 h")],
    )
    def test_how_often(self, hours: float, expected: str) -> None:
        assert words.every(hours) == expected


class TestSearchBox:
    @pytest.mark.parametrize(
        ("typed", "expected"),
        [
            ("999 012 3456", Wanted(number="9990123456")),
            ("999-012", Wanted(number="999012")),
            ("4/3/1948", Wanted(born=date(1948, 3, 4))),
            ("04.03.1948", Wanted(born=date(1948, 3, 4))),
            ("4 Mar 1948", Wanted(born=date(1948, 3, 4))),
            ("1948-03-04", Wanted(born=date(1948, 3, 4))),
            ("Oakes", Wanted(names=("oakes",))),
            ("Oakes, Marg", Wanted(names=("oakes marg", "marg oakes"))),
            ("marg oakes", Wanted(names=("marg oakes", "oakes marg"))),
            ("x", None),
            ("12", None),
            ("99999999999", None),
            ("31/2/1948", None),
            ("a1b2", None),
        ],
    )
    def test_understands(self, typed: str, expected: Wanted | None) -> None:
        assert wanted(typed) == expected


class TestHazardWrongPatient:
    def test_similar_names_in_a_list_are_marked(self) -> None:
        people = [
            Found(str(number), family, given, None, None, None, None)
            for number, (family, given) in enumerate(
                [("Oakes", "Jim"), ("Oakes", "James"), ("Oakes", "Ann"), ("Ash", "J")]
            )
        ]
        assert [row["alike"] for row in listed(people, WINTER)] == [True, True, False, False]


class TestSparkline:
    def test_draws_readings_and_limits_without_inline_style(self) -> None:
        svg = sparkline(Trend([0, 50, 100], [96, 95, 90], 92, 94, None, None), "Oxygen & more", 0, 100)
        assert svg.count("<line") == 2 and "polyline" in svg and "Oxygen &amp; more" in svg
        assert "style=" not in svg

    def test_nothing_measured_draws_nothing(self) -> None:
        assert sparkline(None, "", 0, 1) == ""
        assert sparkline(Trend([], [], None, None, None, None), "", 0, 1) == ""

    def test_one_flat_value_is_drawn(self) -> None:
        assert "polyline" in sparkline(Trend([5], [80], None, None, None, None), "Weight", 0, 10)

    def test_defaults_stand_in_where_no_limits_are_set(self) -> None:
        bare = Trend([1], [93], None, None, None, None)
        drawn = with_limits(bare, "spo2")
        assert drawn is not None and (drawn.low_red, drawn.low_amber) == (92, 94)
        scale_2 = with_limits(replace(bare, scale=2), "spo2")
        assert scale_2 is not None and (scale_2.low_red, scale_2.low_amber) == (83, 87)
        own = Trend([1], [93], 86, None, None, None)
        assert with_limits(own, "spo2") is own and with_limits(bare, "weight") is bare


class TestBoardWords:
    def test_the_trend_is_of_the_first_reason_with_numbers(self) -> None:
        assert main_measure([{"measure": "consciousness"}, {"measure": "spo2"}]) == "spo2"
        assert main_measure([{"text": "no measure"}, {"measure": "gone"}]) is None

    def test_a_number_stands_with_unit_time_and_age(self) -> None:
        trend = Trend([(WINTER - timedelta(hours=2)).timestamp()], [93], None, None, None, None)
        value, when, spoken = trend_words("spo2", trend, WINTER)
        assert value == "93 %" and when == "Oxygen saturation, today 06:12, 2 h ago"
        assert spoken == "Oxygen saturation, last 14 days: 1 reading from 93 % to 93 %"
        assert trend_words("spo2", None, WINTER)[1] == "Oxygen saturation: no reading in 14 days"

    def test_reasons_carry_when(self) -> None:
        reason = {"text": "Oxygen 90 %", "at": (WINTER - timedelta(hours=1)).isoformat()}
        assert reason_words(reason, WINTER) == "Oxygen 90 % (today 07:12, 1 h ago)"

    def test_hazard_missing_data_is_named(self) -> None:
        gaps = [Gap("weight", WINTER - timedelta(days=3)), Gap("pulse", None)]
        assert gap_words(gaps, WINTER) == "weight for 3 days, pulse never measured"


class TestFlagWords:
    def row(self, **given: Any) -> FlagRow:
        known = FlagRow(
            "f1", 2, "p1", "oximetry-at-home", 1, "clinical", 3, "acknowledged", "Oxygen saturation 91 %", [],
            [extent("spo2", "low", 91)], 1, WINTER, WINTER, "Practitioner/n", WINTER, "Rang", None, None, None,
        )  # fmt: skip
        return replace(known, **given)

    def test_hazard_snooze_hides_deterioration_it_says_what_opens_it_again(self) -> None:
        said = flags.shown(self.row(), {"Practitioner/n": "Pat Hill"}, WINTER)["since"]
        assert said.endswith("Acknowledged by Pat Hill, today 08:12. Opens again at 89 % or less.")

    def test_only_where_a_step_would_open_it(self) -> None:
        for row in (self.row(severity=2), self.row(extents=[]), self.row(state="open", acknowledged_at=None)):
            assert "Opens again" not in flags.shown(row, {}, WINTER)["since"]


def test_every_template_compiles() -> None:
    names = environment.list_templates()
    assert len(names) > 40
    for name in names:
        environment.get_template(name)


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere", "javascript:x", "", None, "/a\nb"],
    )
    def test_nobody_is_sent_away(self, address: str | None) -> None:
        assert local(address, "/today") == "/today"

    def test_paths_of_ours_are_kept(self) -> None:
        assert local("/patients/p1?range=week", "/today") == "/patients/p1?range=week"

    def test_assets_carry_a_mark_of_their_content(self) -> None:
        assert asset("carehub.css").startswith("/static/carehub.css?v=")


class TestFrame:
    def test_every_role_has_a_first_page_that_its_permissions_open(self) -> None:
        by_place = {href: permission for permission, href, _ in PLACES}
        for role in ROLES.values():
            kind = "patient" if role.name in ("patient", "carer") else "user"
            home = frame(Actor(kind, "a", "A", role.name, "Practitioner/a", ())).home
            if home in by_place:
                assert by_place[home] in role.permissions, role.name
            else:
                assert home in ("/me", "/tasks"), role.name

    def test_places_ask_for_permissions_that_exist(self) -> None:
        assert {permission for permission, _, _ in PLACES} <= set(PERMISSIONS)

    def test_text_is_escaped(self) -> None:
        html = render(
            "answers.html",
            frame=frame(PATIENT),
            asked=True,
            more=False,
            rows=[{"patient_id": "p", "name": "<script>x</script>", "born": "", "nhs": "", "tier": "", "alike": False}],
        )
        assert "<script>" not in html and "&lt;script&gt;" in html

    def test_what_was_done_names_nobody(self) -> None:
        assert all("{" not in text for text in SAID.values())


def latest(**given: object) -> Latest:
    base: dict[str, object] = {
        "measure": "spo2", "name": "Oxygen saturation", "plain": "oxygen level", "shown": "96 %", "at": WINTER,
        "level": "none", "stale": False, "limits": Limits(low_red=92), "quality": "ok", "personal": True,
    }  # fmt: skip
    return Latest(**(base | given))  # type: ignore[arg-type]


class TestHazardFalseReassurance:
    def test_within_limits_is_said_only_of_a_fresh_reading_with_limits_of_ones_own(self) -> None:
        assert me.how(latest(), WINTER)["word"] == "Within your limits."
        assert me.how(latest(limits=None, personal=False), WINTER)["word"] == ""
        assert me.how(latest(personal=False), WINTER)["word"] == ""
        assert me.how(latest(stale=True), WINTER)["word"] == "This is some time ago."
        assert "measure again" in me.how(latest(quality="check"), WINTER)["word"]
        assert "Outside" in me.how(latest(level="red"), WINTER)["word"]


def typed(**fields: str) -> Form:
    return Form(FormData(fields))


class TestReadingsByHand:
    def test_numbers_keep_what_was_written(self) -> None:
        (weight,) = hand._observations(typed(weight="81,50"), "p1", PATIENT, WINTER)
        assert weight["valueQuantity"] == {
            "value": Decimal("81.50"), "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg",
        }  # fmt: skip
        assert str(weight["valueQuantity"]["value"]) == "81.50"

    def test_blood_pressure_is_one_reading_of_two_numbers(self) -> None:
        (panel,) = hand._observations(typed(systolic="132", diastolic="78"), "p1", PATIENT, WINTER)
        assert panel["code"]["coding"][0]["code"] == "85354-9" and len(panel["component"]) == 2

    @pytest.mark.parametrize(
        "fields",
        [
            {"systolic": "132"},
            {"systolic": "78", "diastolic": "132"},
            {"glucose": "110"},
            {"spo2": "980"},
            {"weight": "NaN"},
            {"weight": "eighty"},
            {"pulse": "1e400"},
        ],
    )
    def test_hazard_wrong_unit_or_impossible_value_is_asked_again(self, fields: dict[str, str]) -> None:
        with pytest.raises(Refusal) as refusal:
            hand._observations(typed(**fields), "p1", PATIENT, WINTER)
        assert refusal.value.status == 422 and refusal.value.issues[0].diagnostics

    def test_every_measure_that_people_take_is_on_the_form_and_becomes_a_reading(self) -> None:
        filled = {"respiratory-rate": "16", "spo2-exertion": "93", "steps": "4200", "falls": "0", "oxygen": "air"}
        found = hand._observations(typed(**filled, consciousness="alert"), "p1", PATIENT, WINTER)
        read = [one for made in found for one in readings(made, WINTER)]
        assert {one.measure for one in read} == {*filled, "consciousness"}
        assert {one.quality for one in read} == {"ok"}
        elsewhere = {"dry-weight", "glucose-sensor", "peak-flow-best", "systolic", "diastolic"}
        scores = {key for key, one in MEASURES.items() if not one.shown and not one.answers}
        assert set(MEASURES) - {*hand.SINGLE, *hand.WORDS} == elsewhere | scores
        with pytest.raises(Refusal):
            hand._observations(typed(oxygen="helium"), "p1", PATIENT, WINTER)

    def test_who_measured_and_who_typed_are_both_on_record(self) -> None:
        coach = Actor("user", "c", "Mel Coach", "health-coach", "Practitioner/c", ("Practitioner/c",))
        (told,) = hand._observations(typed(pulse="72", how="telephone"), "p1", coach, WINTER)
        assert told["performer"] == [{"reference": "Patient/p1"}]
        by, how = told["extension"][0]["extension"]
        assert by["valueReference"] == {"reference": "Practitioner/c", "display": "Mel Coach"}
        assert how["valueCode"] == "telephone"
        (own,) = hand._observations(typed(pulse="72"), "p1", coach, WINTER)
        assert own["performer"][0]["reference"] == "Practitioner/c"
        with pytest.raises(Refusal):
            hand._observations(typed(pulse="72", how="in a dream"), "p1", coach, WINTER)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"glucose": "82"}, "8.2 mmol/L"),
            ({"glucose": "110"}, "6.1 mmol/L (110 mg/dL)"),
            ({"temperature": "368"}, "36.8 °C"),
            ({"temperature": "98.6"}, "37.0 °C (98.6 "),
            ({"spo2": "980"}, "98 %"),
        ],
    )
    def test_hazard_wrong_unit_a_slip_is_asked_back(self, fields: dict[str, str], said: str) -> None:
        with pytest.raises(Refusal, match="Did you mean") as refusal:
            hand._observations(typed(**fields), "p1", PATIENT, WINTER)
        assert said in refusal.value.issues[0].diagnostics

    @pytest.mark.parametrize(
        ("key", "value", "last", "said"),
        [
            ("weight", "182", 82.4, "82.6 kg (182 lb"),
            ("weight", "28", 82.4, "far from the last time (82.4 kg)"),
            ("peak-flow", "41", 410.0, "Did you mean 410 L/min"),
        ],
    )
    def test_what_is_far_from_the_last_time_is_stored_when_it_is_said_to_be_right(
        self, key: str, value: str, last: float, said: str
    ) -> None:
        def kept(number: str, sure: str = "") -> int:
            sent = typed(**{key: number, "sure": sure})
            return len(hand._observations(sent, "p1", PATIENT, WINTER, {key: last}))

        with pytest.raises(hand.Doubted) as doubted:
            kept(value)
        assert said in doubted.value.issues[0].diagnostics
        assert kept(value, doubted.value.sure) == 1
        with pytest.raises(hand.Doubted):
            kept(str(Decimal(value) - 1), doubted.value.sure)

    def test_an_ordinary_change_is_not_asked_about(self) -> None:
        last = {"weight": 82.4, "glucose": 7.1, "spo2": 96.0, "pulse": 70.0, "peak-flow": 400.0}
        worse = typed(weight="85.1", glucose="16.4", spo2="84", pulse="131", **{"peak-flow": "190"})
        assert len(hand._observations(worse, "p1", PATIENT, WINTER, last)) == 5

    def test_hazard_time_zone_the_time_written_is_london_time(self) -> None:
        assert hand.moment("2026-07-01T09:00", SUMMER) == datetime(2026, 7, 1, 8, tzinfo=UTC)
        with pytest.raises(Refusal):
            hand.moment("2026-11-21T10:00", WINTER)
        assert hand.moment("", WINTER) == WINTER

    def test_review_horizon(self) -> None:
        assert worklist.review_horizon(date(2026, 11, 21)) == date(2026, 12, 5)
