"""What a home device can measure: codes, the one unit we keep, what we accept, what is believable.

Adding a measure is one entry in `_TABLE`. Code sources: UKC = UK Core (NHSDigital/FHIR-R4-UKCORE-STAGING-MAIN), R4 =
HL7 FHIR R4 vital signs and examples, CGM = HL7 CGM guide, PH = several public repositories, SYN = Synthea. 'unverified'
codes and ranges are to be confirmed on a terminology server and by a clinical safety officer before clinical use.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
MDC = "urn:iso:std:iso:11073:10101"
UCUM = "http://unitsofmeasure.org"
LOCAL = "https://carehub.example/fhir/CodeSystem/measure"
LOCAL_ANSWER = "https://carehub.example/fhir/CodeSystem/answer"

Code = tuple[str, str]
"""(system, code)"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that we turn into the measure's own: `(value - less) * times / over`, exact in Decimal."""

    times: Decimal = Decimal(1)
    over: Decimal = Decimal(1)
    less: Decimal = Decimal(0)

    def convert(self, value: Decimal) -> Decimal:
        return (value - self.less) * self.times / self.over


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured.

    `unit` is the UCUM code of every kept value; `shown` is how people write it. `accepts` maps other UCUM codes to
    their conversion, `spellings` the unit texts of devices that send no code. Values outside `plausible` (inclusive, in
    `unit`) are kept as "check reading". Values are banded and shown rounded half-up to `decimals`. `answers` is set
    where the reading is a word. A meter's "<" or ">" counts as the number only at or beyond `bounds` (low, high).
    """

    key: str
    name: str
    plain: str
    codes: tuple[Code, ...]
    unit: str = ""
    shown: str = ""
    accepts: Mapping[str, Unit | None] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)
    plausible: tuple[float, float] = (0, 0)
    decimals: int = 0
    bounds: tuple[float, float] | None = None
    answers: Mapping[Code, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def loinc(self) -> str | None:
        """The first LOINC code: what we write on an Observation of this measure."""
        return next((code for system, code in self.codes if system == LOINC), None)

    @property
    def coding(self) -> dict[str, str]:
        """The coding to write on an Observation or a monitoring order: LOINC where there is one, else our own."""
        if self.loinc:
            return {"system": LOINC, "code": self.loinc, "display": self.name}
        return {"system": LOCAL, "code": self.key, "display": self.name}

    def round(self, value: float) -> float:
        return half_up(value, self.decimals)

    @property
    def counted(self) -> bool:
        """Whether the value is a bare number, so that a FHIR integer says it whole."""
        return self.unit.startswith("{") or self.unit == "1"

    def show(self, value: float) -> str:
        """`91 %`, `82.4 kg`, and a score by its number alone."""
        return f"{half_up(value, self.decimals):.{self.decimals}f} {self.shown}".rstrip()


@lru_cache(10_000)  # the same few hundred values come all day long
def half_up(value: float, decimals: int) -> float:
    """Round halves up as people do on paper: 38.05 -> 38.1 (the binary value of 38.05 is just below the half)."""
    scale = 10.0**decimals
    return math.floor(round(value * scale, 6) + 0.5) / scale


def half_up_exact(value: Decimal, decimals: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def _loinc(*codes: str) -> tuple[Code, ...]:
    return tuple((LOINC, code) for code in codes)


def _snomed(*codes: str) -> tuple[Code, ...]:
    return tuple((SNOMED, code) for code in codes)


def _mdc(*codes: str) -> tuple[Code, ...]:
    return tuple((MDC, code) for code in codes)


MG_DL_PER_MMOL_L = Decimal("18.016")
"""Glucose, molar mass 180.16 g/mol."""

MASSES: dict[str, Unit | None] = {
    "g": Unit(over=Decimal(1000)),
    "[lb_av]": Unit(times=Decimal("0.45359237")),
    "[stone_av]": Unit(times=Decimal("6.35029318")),
}
"""International avoirdupois pound and stone, exact by definition."""


def _pressure(
    key: str, name: str, plain: str, codes: tuple[Code, ...], plausible: tuple[float, float], source: str
) -> Measure:
    return Measure(
        key=key,
        name=name,
        plain=plain,
        codes=codes,
        unit="mm[Hg]",
        shown="mmHg",
        spellings={"mmHg": "mm[Hg]", "mm Hg": "mm[Hg]"},
        plausible=plausible,
        source=source,
    )


def _weight(key: str, name: str, plain: str, codes: tuple[Code, ...], source: str) -> Measure:
    return Measure(
        key=key,
        name=name,
        plain=plain,
        codes=codes,
        unit="kg",
        shown="kg",
        accepts=MASSES,
        spellings={"kg": "kg", "lb": "[lb_av]", "lbs": "[lb_av]", "st": "[stone_av]"},
        plausible=(20, 350),
        decimals=1,
        source=source,
    )


def _glucose(key: str, name: str, plain: str, codes: tuple[Code, ...], source: str) -> Measure:
    return Measure(
        key=key,
        name=name,
        plain=plain,
        codes=codes,
        unit="mmol/L",
        shown="mmol/L",
        accepts={"mg/dL": Unit(over=MG_DL_PER_MMOL_L)},
        spellings={"mmol/L": "mmol/L", "mmol/l": "mmol/L", "mg/dL": "mg/dL", "mg/dl": "mg/dL"},
        plausible=(0.6, 45),
        decimals=1,
        bounds=(2.9, 14.0),
        source=source,
    )


def _flow(key: str, name: str, plain: str, codes: tuple[Code, ...], source: str) -> Measure:
    return Measure(
        key=key,
        name=name,
        plain=plain,
        codes=codes,
        unit="L/min",
        shown="L/min",
        accepts={"l/min": None, "L/s": Unit(times=Decimal(60)), "l/s": Unit(times=Decimal(60))},
        spellings={"L/min": "L/min", "l/min": "L/min"},
        plausible=(30, 900),
        source=source,
    )


def _score(
    key: str, name: str, plain: str, codes: tuple[Code, ...], range_: tuple[float, float], source: str,
    unit: str = "{score}", decimals: int = 0,
) -> Measure:  # fmt: skip
    """The result of a questionnaire. `monitoring.questionnaires` works it out where the answers are known."""
    return Measure(
        key=key,
        name=name,
        plain=plain,
        codes=codes,
        unit=unit,
        shown="",
        spellings={"score": unit, "points": unit},
        plausible=range_,
        decimals=decimals,
        source=source,
    )


ALERT, CONFUSED, VOICE, PAIN, UNRESPONSIVE = "alert", "confused", "voice", "pain", "unresponsive"
AIR, OXYGEN = "air", "oxygen"

_TABLE = (
    _pressure(
        key="systolic",
        name="Systolic blood pressure",
        plain="blood pressure, upper number",
        codes=_loinc("8480-6") + _snomed("72313002", "271649006", "1162737008") + _mdc("150021"),
        plausible=(50, 300),
        source="UKC, R4 (271649006), MDC: PH; plausible range ours, unverified",
    ),
    _pressure(
        key="diastolic",
        name="Diastolic blood pressure",
        plain="blood pressure, lower number",
        codes=_loinc("8462-4") + _snomed("1091811000000102", "271650006", "1162735000") + _mdc("150022"),
        plausible=(20, 200),
        source="UKC, R4 (271650006), MDC: PH; plausible range ours, unverified",
    ),
    Measure(
        key="pulse",
        name="Pulse",
        plain="pulse",
        codes=_loinc("8867-4") + _snomed("364075005", "78564009", "444981005") + _mdc("149530", "149546"),
        unit="/min",
        shown="/min",
        accepts={"{beats}/min": None, "{Beats}/min": None},
        spellings={"bpm": "/min", "beats/minute": "/min", "beats/min": "/min", "/min": "/min"},
        plausible=(20, 250),
        source="UKC (its NEWS2 bundle writes {beats}/min), MDC: PH; plausible range ours, unverified",
    ),
    Measure(
        key="spo2",
        name="Oxygen saturation",
        plain="oxygen level",
        codes=_loinc("59408-5", "2708-6")
        + _snomed("431314004", "103228002", "866661000000106", "866701000000100")
        + _mdc("150456"),
        unit="%",
        shown="%",
        spellings={"%": "%"},
        plausible=(50, 100),
        source="UKC, R4 vital signs, MDC: PH; plausible range ours, unverified",
    ),
    Measure(
        key="spo2-exertion",
        name="Oxygen saturation on exertion",
        plain="oxygen level after exercise",
        codes=_snomed("866681000000102", "866721000000109"),
        unit="%",
        shown="%",
        spellings={"%": "%"},
        plausible=(50, 100),
        source="UKC; kept apart from the value at rest, which is what NEWS2 and the oximetry diary band",
    ),
    Measure(
        key="oxygen",
        name="Air or oxygen",
        plain="breathing air or oxygen",
        codes=_loinc("3151-8", "3150-0") + _snomed("371825009"),
        answers={
            (SNOMED, "722742002"): AIR,
            (SNOMED, "371825009"): OXYGEN,
            (SNOMED, "373066001"): OXYGEN,
            (SNOMED, "373067005"): AIR,
        },
        words={AIR: "breathing air", OXYGEN: "on oxygen"},
        source="UKC (371825009 with a flow or percentage), US Core components 3151-8, 3150-0; yes/no: PH",
    ),
    Measure(
        key="respiratory-rate",
        name="Respiratory rate",
        plain="breaths per minute",
        codes=_loinc("9279-1") + _snomed("86290005") + _mdc("151562"),
        unit="/min",
        shown="/min",
        accepts={"{Breaths}/min": None, "{breaths}/min": None},
        spellings={"breaths/minute": "/min", "breaths/min": "/min", "/min": "/min"},
        plausible=(3, 70),
        source="UKC (its NEWS2 bundle writes {Breaths}/min), MDC: PH; plausible range ours, unverified",
    ),
    Measure(
        key="consciousness",
        name="Consciousness",
        plain="alertness",
        codes=_loinc("80288-4", "67775-7") + _snomed("1104441000000107"),
        answers={
            (SNOMED, "248234008"): ALERT,
            (SNOMED, "130987000"): CONFUSED,
            (SNOMED, "300202002"): VOICE,
            (SNOMED, "450847001"): PAIN,
            (SNOMED, "422768004"): UNRESPONSIVE,
            (LOINC, "LA9340-6"): ALERT,
            (LOINC, "LA6560-2"): CONFUSED,
            (LOINC, "LA17108-4"): VOICE,
            (LOINC, "LA17107-6"): PAIN,
            (LOINC, "LA9343-0"): UNRESPONSIVE,
        },
        words={
            ALERT: "alert",
            CONFUSED: "newly confused",
            VOICE: "responds to voice",
            PAIN: "responds to pain",
            UNRESPONSIVE: "unresponsive",
        },
        source="UKC; 80288-4: DK Core; 67775-7 and its LA answers: one public guide, unverified",
    ),
    Measure(
        key="temperature",
        name="Temperature",
        plain="temperature",
        codes=_loinc("8310-5", "8331-1")
        + _snomed("386725007", "276885007", "415974002", "415945006", "415882003")
        + _mdc("150364"),
        unit="Cel",
        shown="°C",
        accepts={"[degF]": Unit(over=Decimal("1.8"), less=Decimal(32)), "K": Unit(less=Decimal("273.15"))},
        spellings={"C": "Cel", "°C": "Cel", "degC": "Cel", "F": "[degF]", "°F": "[degF]", "degF": "[degF]"},
        plausible=(30, 45),
        decimals=1,
        source="UKC, 8331-1: SYN, MDC: PH; plausible range ours, unverified",
    ),
    _weight(
        key="weight",
        name="Weight",
        plain="weight",
        codes=_loinc("29463-7", "3141-9") + _snomed("27113001", "784399000") + _mdc("188736"),
        source="UKC, 3141-9: R4 example, MDC: PH; plausible range ours (adults), unverified",
    ),
    _weight(
        key="dry-weight",
        name="Dry weight",
        plain="target (dry) weight",
        codes=_snomed("445541000"),
        source="UKC; the weight without excess fluid that a clinician agreed",
    ),
    _glucose(
        key="glucose",
        name="Glucose",
        plain="blood sugar",
        codes=_loinc("14743-9", "41653-7", "2339-0", "15074-8")
        + _snomed("997671000000106", "997681000000108", "1030551000000103", "434911002")
        + _mdc("160184"),
        source="UKC, capillary: PH, 2339-0: SYN, 15074-8: R4 example; plausible range ours, unverified",
    ),
    _glucose(
        key="glucose-sensor",
        name="Glucose by sensor",
        plain="blood sugar by sensor",
        codes=_loinc("105272-9", "99504-3") + _mdc("160212"),
        source="CGM (interstitial fluid), MDC_CONC_GLU_ISF: PH; kept apart from capillary blood, since time in range "
        "counts a sensor's values alone; plausible range ours, unverified",
    ),
    _flow(
        key="peak-flow",
        name="Peak flow",
        plain="peak flow",
        codes=_loinc("19935-6") + _snomed("18491006", "313193002") + _mdc("152584"),
        source="PH; 18491006 unverified; plausible range ours, unverified",
    ),
    _flow(
        key="peak-flow-best",
        name="Personal best peak flow",
        plain="best ever peak flow",
        codes=(),
        source="ours: the best that a person blew when well, with its day; asthma zones are parts of it (Breathe 2015)",
    ),
    Measure(
        key="steps",
        name="Steps",
        plain="steps",
        codes=_loinc("41950-7", "55423-8"),
        unit="{steps}",
        shown="steps",
        accepts={"{steps}/(24.h)": None, "1": None, "/d": None},
        spellings={"steps": "{steps}"},
        plausible=(0, 100_000),
        source="PH; range ours",
    ),
    Measure(
        key="falls",
        name="Falls",
        plain="falls",
        codes=_snomed("1912002"),
        unit="{falls}",
        shown="falls",
        accepts={"1": None, "{count}": None},
        spellings={"falls": "{falls}"},
        plausible=(0, 50),
        source="1912002 |Fall|, unverified: each is an event at its time, told as 1, or as more when several are told "
        "at once; 0 says that somebody asked and there was none; range ours",
    ),
    _score(
        key="phq-9",
        name="PHQ-9 total",
        plain="mood questionnaire (PHQ-9)",
        codes=_loinc("44261-6"),
        range_=(0, 27),
        source="LOINC panel 44249-1: PH; range: Kroenke, Spitzer, Williams 2001 (nine items of 0 to 3)",
    ),
    _score(
        key="phq-9-item-9",
        name="PHQ-9 item 9, thoughts of being better off dead or of self-harm",
        plain="PHQ-9 question 9",
        codes=_loinc("44260-8"),
        range_=(0, 3),
        source="LOINC panel 44249-1: PH; kept apart from the total, since any answer but the first takes a human today",
    ),
    _score(
        key="gad-7",
        name="GAD-7 total",
        plain="worry questionnaire (GAD-7)",
        codes=_loinc("70274-6"),
        range_=(0, 21),
        source="LOINC panel 69737-5: PH; range: Spitzer, Kroenke, Williams, Löwe 2006 (seven items of 0 to 3)",
    ),
    _score(
        key="ucla-3",
        name="UCLA three-item loneliness",
        plain="loneliness questionnaire",
        codes=(),
        range_=(3, 9),
        source="Hughes, Waite, Hawkley, Cacioppo 2004 (three items of 1 to 3); no public code found",
    ),
    _score(
        key="mmrc",
        name="Breathlessness (mMRC grade)",
        plain="breathlessness",
        codes=(),
        range_=(0, 4),
        source="Bestall and others 1999, grades 0 to 4 as modified; no public code found",
    ),
    _score(
        key="eq-5d-index",
        name="EQ-5D-5L index",
        plain="health index (EQ-5D)",
        codes=_snomed("736535009"),
        range_=(-1, 1),
        unit="1",
        decimals=3,
        source="736535009 unverified. Only the result is entered: the questionnaire is licensed by EuroQol. The lowest "
        "value depends on the country's value set (-0.594 in England), so the range is ours",
    ),
    _score(
        key="eq-5d-vas",
        name="EQ VAS",
        plain="how good health is today (0 to 100)",
        codes=_snomed("736534008"),
        range_=(0, 100),
        source="736534008 unverified; only the result is entered, as above",
    ),
)

MEASURES: dict[str, Measure] = {measure.key: measure for measure in _TABLE}

IMPLIED: dict[Code, tuple[str, str]] = {
    (SNOMED, "866661000000106"): ("oxygen", AIR),
    (SNOMED, "866701000000100"): ("oxygen", OXYGEN),
}
"""Observation codes that say a second thing: SpO2 'on room air at rest', 'on supplemental oxygen at rest' (UKC)."""


def _by_code() -> dict[Code, Measure]:
    table: dict[Code, Measure] = {}
    for measure in _TABLE:
        for code in (*measure.codes, (LOCAL, measure.key)):
            if code in table:
                raise ValueError(f"{code} means both {table[code].key} and {measure.key}")
            table[code] = measure
    return table


BY_CODE: dict[Code, Measure] = _by_code()

SPECIFIC = frozenset({"spo2-exertion", "dry-weight", "peak-flow-best", "glucose-sensor"})
"""Measures that win when an Observation also carries the general code: a dry weight is not a weighing."""

AGREED = frozenset({"dry-weight", "peak-flow-best"})
"""What people agree on, and no device measures: it has a date, and takes no limits of its own."""
