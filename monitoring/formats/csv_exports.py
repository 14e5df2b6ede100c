"""CSV as people export it from the apps of their meters: which file it is, its readings, and what of it is none.

Times without an offset are taken as those of Europe/London, by one rule. An hour that the clocks leave out does not
exist: its row is refused. In the hour that comes twice a row is summer time, until a row says an earlier time than the
one before it: from there on it is winter time. Times with an offset are taken as they stand.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from monitoring.formats import FormatRefused
from monitoring.measures import MEASURES, UCUM

JSON = dict[str, Any]
LONDON = ZoneInfo("Europe/London")

MOST_ROWS = 50_000
LONGEST_CELL = 200
IDENTIFIER = "https://carehub.example/fhir/Id/csv-source"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file (from 1, with the header): what stands in it, and the reading it is, or why it is none."""

    line: int
    text: str
    observation: JSON | None = None
    refusal: FormatRefused | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A file: whose app wrote it (`Dexcom`), its readings and refused rows in `rows`, and in `aside` the lines that are
    no readings by their nature (name of the person, alerts), each with what it is."""

    kind: str
    rows: Sequence[Row]
    aside: Sequence[tuple[int, str]]

    @property
    def readings(self) -> list[JSON]:
        return [row.observation for row in self.rows if row.observation is not None]


@dataclass(frozen=True, slots=True)
class Shape:
    """How one app writes its files. `columns` are what its header must have; `read` gives of one row, as a mapping by
    column, a value and what it is a reading of, or a word for what else the row is."""

    kind: str
    columns: frozenset[str]
    read: Callable[[Mapping[str, str]], "Found | str"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a row says was measured."""

    measure: str
    time: str
    value: Decimal
    unit: str
    comparator: str | None = None
    source: str | None = None


@dataclass(slots=True)
class Clock:
    """Local times of a file, in its order."""

    _winter: bool = False
    _before: datetime | None = field(default=None)

    def instant(self, text: str, column: str) -> datetime:
        """Raises FormatRefused for what is no time, or none that existed."""
        try:
            said = datetime.fromisoformat(text.strip().replace("/", "-"))
        except ValueError as error:
            raise FormatRefused("no-time", f"{text!r:.40} is no time such as 2026-11-21T09:30:00.", column) from error
        if len(text.strip()) <= 10:
            raise FormatRefused("no-time", f"{text!r:.40} is a day without a time.", column)
        if said.tzinfo is not None:
            return said
        try:
            summer, winter = (said.replace(tzinfo=LONDON, fold=fold) for fold in (0, 1))
            if summer.utcoffset() == winter.utcoffset():
                self._winter, self._before = False, said
                return summer
            back = summer.astimezone(UTC).astimezone(LONDON).replace(tzinfo=None)
        except OverflowError as error:
            raise FormatRefused("no-time", f"{text!r:.40} is no time that can be.", column) from error
        if back != said:
            text = f"{text} did not exist in the United Kingdom: the clocks went forward over it. Was the clock right?"
            raise FormatRefused("no-time", text, column)
        if self._before is not None and said < self._before and self._before - said < timedelta(hours=2):
            self._winter = True
        self._before = said
        return winter if self._winter else summer


def export(raw: bytes, subject: str) -> Export:
    """What *raw* holds, for the person *subject* (a reference). Raises FormatRefused for a file that we do not know."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatRefused("structure", "The file is no text in UTF-8.", "file") from error
    if "\0" in text:
        raise FormatRefused("structure", "The file holds bytes that are no text.", "file")
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        header = [cell.strip() for cell in next(lines, [])]
        shape = _shape(header)
        rows: list[Row] = []
        aside: list[tuple[int, str]] = []
        clock = Clock()
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) + len(aside) >= MOST_ROWS:
                raise FormatRefused(
                    "structure", f"The file has more than {MOST_ROWS:,} rows. Send it in parts.", "file"
                )
            row = _row(shape, header, cells, lines.line_num, clock, subject)
            if isinstance(row, str):
                aside.append((lines.line_num, row))
            else:
                rows.append(row)
    except csv.Error as error:
        raise FormatRefused("structure", f"Line {lines.line_num} is no CSV: {error}.", "file") from error
    return Export(shape.kind, rows, aside)


def _shape(header: Sequence[str]) -> Shape:
    names = frozenset(header)
    for shape in SHAPES:
        if all(any(name.startswith(wanted) for name in names) for wanted in shape.columns):
            return shape
    known = "; ".join(f"{one.kind} ({', '.join(sorted(one.columns))})" for one in SHAPES)
    raise FormatRefused("unknown-file", f"The first line is not that of a file we know. Known are: {known}.", "file")


def _row(shape: Shape, header: Sequence[str], cells: Sequence[str], line: int, clock: Clock, subject: str) -> Row | str:
    text = ",".join(cells)[:1000]
    try:
        if len(cells) != len(header):
            raise FormatRefused("structure", f"{len(cells)} columns, where the header has {len(header)}.", "row")
        if max(map(len, cells)) > LONGEST_CELL:
            raise FormatRefused("structure", f"A column holds more than {LONGEST_CELL} characters.", "row")
        found = shape.read(dict(zip(header, (cell.strip() for cell in cells), strict=True)))
        if isinstance(found, str):
            return found
        return Row(line, text, observation=_observation(found, clock.instant(found.time, "time"), shape.kind, subject))
    except FormatRefused as refusal:
        return Row(line, text, refusal=refusal)


def _observation(found: Found, at: datetime, kind: str, subject: str) -> JSON:
    measure = MEASURES[found.measure]
    code = found.unit if found.unit == measure.unit else measure.spellings.get(found.unit, found.unit)
    if code != measure.unit and code not in measure.accepts:
        known = ", ".join(dict.fromkeys(measure.spellings))
        raise FormatRefused("wrong-unit", f"{measure.name} in {found.unit!r}; known are {known}.", "unit")
    quantity: JSON = {"value": found.value, "unit": found.unit, "system": UCUM, "code": code}
    if found.comparator:
        quantity["comparator"] = found.comparator
    made: JSON = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": "vital-signs"}]}],
        "code": {"coding": [measure.coding], "text": measure.name},
        "subject": {"reference": subject},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": quantity,
        "note": [{"text": f"From a file ({kind})."}],
    }
    if found.source:
        made["identifier"] = [{"system": IDENTIFIER, "value": found.source}]
    return made


def _number(text: str, column: str) -> Decimal:
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or len(text) > 40:
        raise FormatRefused("value", f"{text!r:.40} is not a number.", column)
    return value


# -- the files we know -------------------------------------------------------------------------------------------------

# What a Dexcom sensor says instead of a number: below 40 and above 400 mg/dL, which is 2.2 and 22.2 mmol/L. Source:
# Dexcom Clarity user guide.
DEXCOM_BOUNDS = {
    ("low", "mg/dL"): ("<", Decimal(40)),
    ("high", "mg/dL"): (">", Decimal(400)),
    ("low", "mmol/L"): ("<", Decimal("2.2")),
    ("high", "mmol/L"): (">", Decimal("22.2")),
}


def _dexcom(row: Mapping[str, str]) -> Found | str:
    """The export of Dexcom Clarity: rows about the person and the alerts first, then a row for each value (EGV)."""
    event = row["Event Type"]
    if event not in ("EGV", "Calibration"):
        return f"{event or 'no event'}: not a glucose value"
    column = next(name for name in row if name.startswith("Glucose Value"))
    unit = column.partition("(")[2].rstrip(")").strip()
    if unit not in ("mg/dL", "mmol/L"):
        raise FormatRefused("wrong-unit", f"The column {column!r:.60} names no unit that we know.", column)
    time = next(text for name, text in row.items() if name.startswith("Timestamp"))
    said = row[column]
    # A calibration is a finger prick that the person typed into the app.
    measure = "glucose" if event == "Calibration" else "glucose-sensor"
    bound = DEXCOM_BOUNDS.get((said.lower(), unit))
    comparator, value = bound if bound else (None, _number(said, column))
    return Found(measure, time, value, unit, comparator, row.get("Source Device ID") or None)


def _simglucose(row: Mapping[str, str]) -> Found:
    """The history of the simulator simglucose: a sensor's value (mg/dL) every three minutes."""
    return Found("glucose-sensor", row["Time"], round(_number(row["CGM"], "CGM"), 1), "mg/dL", None, "simglucose")


def _plain(row: Mapping[str, str]) -> Found:
    """Ours, for whoever has a table of their own: time, measure (a key of the table of measures), value, unit."""
    measure = row["measure"].strip().lower()
    if measure not in MEASURES or MEASURES[measure].answers:
        known = ", ".join(key for key, one in MEASURES.items() if not one.answers)
        raise FormatRefused("unknown-answer", f"{measure!r:.40} is no measure; known are {known}.", "measure")
    return Found(measure, row["time"], _number(row["value"], "value"), row["unit"])


SHAPES = (
    Shape("Dexcom", frozenset({"Timestamp", "Event Type", "Glucose Value"}), _dexcom),
    Shape("simglucose", frozenset({"Time", "BG", "CGM"}), _simglucose),
    Shape("a table of readings", frozenset({"time", "measure", "value", "unit"}), _plain),
)


def reasons(rows: Sequence[Row]) -> Iterator[tuple[int, str, str]]:
    """Line, text and reason of each refused row."""
    for row in rows:
        if row.refusal is not None:
            yield row.line, row.text, row.refusal.issues[0].diagnostics
