"""The past evaluated again gives what was found when it was the present."""

from datetime import date, timedelta

from monitoring_cases import NOW, case, days, hours, reading

from hub.db import Tx
from monitoring.case import Finding
from monitoring.evaluation import evaluate
from monitoring.limits import Limits, Order
from monitoring.projection import project_readings
from monitoring.replay import alerts, history, replay, would_have_raised


def weighings() -> list:
    """Ten steady days, then more than 2 kg in the last three."""
    return [reading("weight", 80 + (n < 3) * (3 - n), days(n)) for n in range(12)]


class TestReplay:
    def test_each_instant_sees_only_what_came_before(self) -> None:
        found = replay("p1", weighings())
        assert [(at, one.rule) for at, one in found] == [(NOW, "hf-weight")]

    def test_it_says_what_was_said_then(self) -> None:
        sent = [*weighings(), reading("spo2", 93, hours(1)), reading("spo2", 93, hours(2))]
        newest = max(one.at for one in sent)
        then = evaluate(case(*[one for one in sent if one.at == newest], earlier=sent))
        assert [one for at, one in replay("p1", sent) if at == newest] == then

    def test_what_is_told_together_is_seen_together(self) -> None:
        sent = [reading("pulse", 131, hours(3)), reading("temperature", 39.2, hours(3))]
        ((_, one),) = replay("p1", sent)
        assert isinstance(one, Finding)
        assert one.summary.startswith("NEWS2 partial 2 of 7, at least 5")

    def test_one_alert_for_one_episode(self) -> None:
        low = [reading("spo2", 90, hours(n)) for n in (1, 5, 9)]
        other = [reading("spo2", 91, hours(80))]
        found = replay("p1", [*low, *other])
        assert len(found) == 4
        assert [NOW - at for at, _ in alerts(found)] == [hours(80), hours(9)]

    def test_information_is_no_alert(self) -> None:
        found = replay("p1", [reading("spo2", 94, hours(1))])
        assert len(found) == 1
        assert alerts(found) == []


class TestPreviewOfLimits:
    async def test_what_new_limits_would_have_raised(self, tx: Tx) -> None:
        sent = [reading("pulse", 104 if n in (2, 3, 20, 40) else 80, days(n)) for n in range(1, 45)]
        sent += [reading("pulse", 122, days(10) + timedelta(minutes=1)), reading("weight", 80, days(3))]
        await project_readings(tx.pg, sent, NOW)
        order = Order(
            "s1",
            "p1",
            "pulse",
            Limits(high_amber=100, high_red=120),
            None,
            24,
            "Practitioner/g",
            "AF",
            date(2027, 1, 1),
        )
        raised = await would_have_raised(tx.pg, order, NOW)
        assert [(one.rule, one.severity) for _, one in raised] == [("limit-pulse", 3), ("limit-pulse", 2)]

    async def test_history_of_some_measures(self, tx: Tx) -> None:
        await project_readings(tx.pg, [*weighings(), reading("pulse", 70)], NOW)
        assert len(await history(tx.pg, "p1", NOW - days(30), NOW)) == 12
        assert {one.measure for one in await history(tx.pg, "p1", NOW - days(30), NOW, ["pulse"])} == {"pulse"}
