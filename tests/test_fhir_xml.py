"""FHIR XML is the same record as FHIR JSON, and nothing in an XML body is fetched, unfolded or guessed."""

import json
import os
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir import wire, xml_reading, xml_writing
from fhir.outcome import Refusal
from fhir.structure import Model, model_of
from fhir.types import SERVED
from fhir.validation import check
from fhir.xml_narrative import XHTML
from fhir.xml_writing import elements

SHARED = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
EXAMPLES = sorted((SHARED / "hl7-examples").glob("*/*.json"))
NS = 'xmlns="http://hl7.org/fhir"'
TRAPS = [b"<", b"</", b"/>", b"&", b"&x;", b"<!DOCTYPE x>", b"<![CDATA[", b"<!--", b"<?x ?>", b"\x00", b"\xff", b'"']
DIV = f'<div xmlns="{XHTML}">'

JSON = dict[str, Any]


def exact(resource: JSON) -> Any:
    """With numbers as they are written."""
    return json.loads(wire.encode(resource), parse_float=str, parse_int=str)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def patient(inside: str) -> bytes:
    return f"<Patient {NS}>{inside}</Patient>".encode()


class TestRoundTrip:
    def test_the_examples_are_there(self) -> None:
        assert len(EXAMPLES) == 259

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_hazard_record_changed_between_formats_an_official_example_is_the_same_after_xml(self, path: Path) -> None:
        resource = wire.decode(path.read_bytes())
        for pretty in (False, True):
            assert exact(xml_reading.decode(xml_writing.encode(resource, pretty))) == exact(resource)

    @pytest.mark.parametrize("type_", sorted(SERVED))
    def test_every_type_can_be_written(self, type_: str) -> None:
        resource = {"resourceType": type_, "id": "x", "meta": {"versionId": "1"}}
        assert xml_reading.decode(xml_writing.encode(resource)) == resource

    def test_elements_come_in_the_order_in_which_hl7_writes_its_own_examples(self) -> None:
        def walk(model: Model, value: JSON) -> int:
            known = {element.name: element for element in elements(model)}
            keys = [key.removeprefix("_") for key in value if key.removeprefix("_") in known]
            assert keys == sorted(keys, key=list(known).index), model
            children = [(known[key], one) for key in keys for one in as_list(value.get(key)) if isinstance(one, dict)]
            for element, one in children:
                below = model_of(one["resourceType"]) if element.model is None else element.model
                walk(below, one)
            return 1

        assert sum(walk(model_of(path.parent.name), wire.decode(path.read_bytes())) for path in EXAMPLES) == 259


class TestWriting:
    def test_as_the_specification_shows_it(self) -> None:
        resource: JSON = {
            "resourceType": "Patient",
            "birthDate": "1950-02-03",
            "active": True,
            "name": [
                {
                    "id": "n1",
                    "given": [None, "Ada"],
                    "_given": [{"extension": [{"url": "http://x.example/e", "valueCode": "masked"}]}, {"id": "g2"}],
                    "family": "O'Brien & <Sons>",
                }
            ],
            "contained": [{"resourceType": "Organization", "id": "o", "active": False}],
            "id": "p",
            "_birthDate": {"extension": [{"url": "http://x.example/t", "valueDecimal": Decimal("1.50")}]},
            "text": {"div": f"{DIV}Ada<br/></div>", "status": "generated"},
        }
        assert xml_writing.encode(resource, pretty=True).decode() == f"""<?xml version="1.0" encoding="UTF-8"?>
<Patient {NS}>
  <id value="p"/>
  <text>
    <status value="generated"/>
    {DIV}Ada<br/></div>
  </text>
  <contained>
    <Organization>
      <id value="o"/>
      <active value="false"/>
    </Organization>
  </contained>
  <active value="true"/>
  <name id="n1">
    <family value="O'Brien &amp; &lt;Sons&gt;"/>
    <given>
      <extension url="http://x.example/e">
        <valueCode value="masked"/>
      </extension>
    </given>
    <given id="g2" value="Ada"/>
  </name>
  <birthDate value="1950-02-03">
    <extension url="http://x.example/t">
      <valueDecimal value="1.50"/>
    </extension>
  </birthDate>
</Patient>
"""  # fmt: skip
        assert exact(xml_reading.decode(xml_writing.encode(resource))) == exact(resource)

    @pytest.mark.parametrize("number", ["0", "-1", "1.50", "0.0", "1.0E-7", "100", "98.60000"])
    def test_hazard_record_changed_between_formats_numbers_keep_their_precision(self, number: str) -> None:
        observation = wire.decode(b'{"resourceType":"Observation","valueQuantity":{"value":%s}}' % number.encode())
        raw = xml_writing.encode(observation)
        assert f'value="{number}"' in raw.decode()
        assert wire.encode(xml_reading.decode(raw)["valueQuantity"]) == b'{"value":%s}' % number.encode()

    def test_line_breaks_and_tabs_of_a_text_survive(self) -> None:
        resource = {"resourceType": "Basic", "code": {"text": 'a\tb\r\nc\n "d" 😀'}}
        assert xml_reading.decode(xml_writing.encode(resource, pretty=True)) == resource

    def test_what_xml_cannot_hold_is_replaced_visibly(self) -> None:
        resource = {"resourceType": "Basic", "code": {"text": "a\x01b\x1fc\uffff"}}
        assert xml_reading.decode(xml_writing.encode(resource))["code"]["text"] == "a\ufffdb\ufffdc\ufffd"

    @pytest.mark.parametrize(
        ("stored", "said"),
        [
            (f"{DIV}a<b>c</b></div>", f"{DIV}a<b>c</b></div>"),
            ("<div>a</div>", f"{DIV}a</div>"),
            (f"{DIV}a&nbsp;b &eacute;&amp;</div>", f"{DIV}a\u00a0b é&amp;</div>"),
            ("<div>a<br>b</div>", f"{DIV}&lt;div&gt;a&lt;br&gt;b&lt;/div&gt;</div>"),
            ("<div>a</div></text></Patient>", f"{DIV}&lt;div&gt;a&lt;/div&gt;&lt;/text&gt;&lt;/Patient&gt;</div>"),
            ("<div>\x02<p>", f"{DIV}&lt;div&gt;\ufffd&lt;p&gt;</div>"),
        ],
    )
    def test_narrative_never_breaks_the_document(self, stored: str, said: str) -> None:
        resource = {"resourceType": "Patient", "text": {"status": "generated", "div": stored}, "id": "x"}
        back = xml_reading.decode(xml_writing.encode(resource))
        assert back == resource | {"text": {"status": "generated", "div": said}}


class TestReading:
    def test_comments_instructions_and_schema_locations_are_passed_over(self) -> None:
        raw = (
            b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?><?xml-stylesheet href="x"?><!-- a -->'
            b'<Patient xmlns="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
            b' xsi:schemaLocation="http://hl7.org/fhir patient.xsd">\n <!-- b -->\n <active value="true"/></Patient>'
        )
        assert xml_reading.decode(raw) == {"resourceType": "Patient", "active": True}

    def test_prefixes_and_the_order_of_elements_are_the_senders_choice(self) -> None:
        raw = (
            f'<f:Patient xmlns:f="http://hl7.org/fhir" xmlns="{XHTML}"><f:active value="true"/><f:id value="x"/>'
            '<f:text><div title="a > b">é<br/></div><f:status value="generated"/></f:text></f:Patient>'
        )
        assert xml_reading.decode(raw.encode()) == {
            "resourceType": "Patient",
            "active": True,
            "id": "x",
            "text": {"status": "generated", "div": f'<div xmlns="{XHTML}" title="a > b">é<br/></div>'},
        }

    def test_what_comes_in_is_checked_like_json(self) -> None:
        with pytest.raises(Refusal) as refused:
            check(xml_reading.decode(patient('<gender value="femail"/><birthDate value=""/>')))
        assert {issue.expression for issue in refused.value.issues} == {"Patient.gender", "Patient.birthDate"}

    @pytest.mark.parametrize(
        ("raw", "said"),
        [
            (b"", "no element found (line 1, column 1)"),
            (b"{}", "not well-formed"),
            (patient("<name>\n <family"), "(line 2, column 9)"),
            (patient("\n<name></nome>"), "mismatched tag (line 2"),
            (patient('<active value="true" value="false"/>'), "duplicate attribute"),
            (b"<Patient>\xff</Patient>", "not UTF-8"),
            ('<?xml version="1.0" encoding="UTF-16"?><Patient/>'.encode("utf-16"), "not UTF-8"),
            (b'<?xml version="1.0" encoding="latin1"?><Patient/>', "UTF-8, not in latin1"),
            (b"<Patient/>", "namespace '(none)'; expected http://hl7.org/fhir (line 1, column 1)"),
            (b'<Patient xmlns="urn:other"/>', "namespace 'urn:other'"),
            (f"<div xmlns='{XHTML}'/>".encode(), "expected http://hl7.org/fhir"),
            (f"<Pation {NS}/>".encode(), "did you mean Patient?"),
            (f"<Evidence {NS}/>".encode(), "Evidence is not served"),
            (patient('\n\n  <familly value="x"/>'), "<familly> is no element of Patient"),
            (patient('<active value="true"/><active value="true"/>'), "<active> stands twice"),
            (patient('<active value="yes"/>'), "must be true or false; it is 'yes'"),
            (patient("<active/>"), "neither a value nor an extension"),
            (patient("<active>true</active>"), "text stands between elements: 'true'"),
            (patient('<active wert="true"/>'), "no attribute 'wert'"),
            (patient('<name value="x"/>'), "no attribute 'value'"),
            (patient('<active value="true"><id value="x"/></active>'), "written as an attribute"),
            (patient('<multipleBirthInteger value="1.5"/>'), "must be a whole number; it is '1.5'"),
            (patient('<multipleBirthInteger value="' + "9" * 5000 + '"/>'), "must be a whole number"),
            (patient('<contained><Patient/><Patient/></contained>'), "holds one resource"),
            (patient('<text><div>x</div></text>'), f"says its namespace, {XHTML}"),
            (patient(f'<name><family xmlns="{XHTML}"/></name>'), "expected http://hl7.org/fhir"),
            (patient(f'<text><x:div xmlns:x="{XHTML}">a</x:div></text>'), "without a prefix"),
            (patient(f'<text xmlns:x="urn:x">{DIV}<x:a/></div></text>'), "namespaces it uses itself"),
            (patient(f"<text>{DIV}a&nbsp;b</div></text>"), "numbers such as &#160;"),
            (f'<Observation {NS}><valueQuantity><value value="1,5"/></valueQuantity></Observation>'.encode(),
             "must be a decimal number; it is '1,5'"),
        ],
    )  # fmt: skip
    def test_what_is_no_fhir_xml_is_refused_with_its_place(self, raw: bytes, said: str) -> None:
        with pytest.raises(Refusal) as refused:
            xml_reading.decode(raw)
        assert refused.value.status == 400
        assert said in str(refused.value)
        assert "UTF-8: " in str(refused.value) or re.search(r"\(line \d+, column \d+\)", str(refused.value))


class TestHostileXml:
    @pytest.mark.parametrize(
        "head",
        [
            '<!DOCTYPE Patient [<!ENTITY a "b">]>',
            '<!DOCTYPE Patient SYSTEM "http://127.0.0.1/x.dtd">',
            '<!DOCTYPE Patient [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>',
            '<!DOCTYPE Patient [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        ],
    )
    def test_a_document_type_is_refused(self, head: str) -> None:
        with pytest.raises(Refusal, match="DOCTYPE"):
            xml_reading.decode(f"{head}<Patient {NS}><id value='&x;'/></Patient>".encode())

    def test_a_billion_laughs_is_refused_before_anything_unfolds(self) -> None:
        entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        started = time.perf_counter()
        with pytest.raises(Refusal, match="DOCTYPE"):
            xml_reading.decode(f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><Patient {NS}>&e9;</Patient>'.encode())
        assert time.perf_counter() - started < 0.5

    @pytest.mark.parametrize(
        ("inside", "said"),
        [
            ("<contact>" * 100_000, "no element of Patient.contact"),
            ("<extension>" * 100_000, "nested deeper than 64"),
            (f"<text>{DIV}" + "<p>" * 100_000, "nested deeper than 100"),
            ('<active value="true" ' + " ".join(f'a{n}=""' for n in range(20_000)) + "/>", "more than 32 attributes"),
        ],
    )
    def test_depth_and_attributes_are_bounded(self, inside: str, said: str) -> None:
        with pytest.raises(Refusal) as refused:
            xml_reading.decode(patient(inside))
        assert refused.value.status == 400
        assert said in str(refused.value) or "nested deeper" in str(refused.value)

    def test_elements_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xml_reading, "MAX_ELEMENTS", 1000)
        assert len(xml_reading.decode(patient("<name/>" * 999))["name"]) == 999
        with pytest.raises(Refusal, match="more than 1000 elements") as refused:
            xml_reading.decode(patient("<name/>" * 1000))
        assert refused.value.status == 413
        assert refused.value.issues[0].code == "too-costly"

    def test_a_number_of_any_size_is_refused_where_it_is_stored(self) -> None:
        raw = f'<Observation {NS}><valueQuantity><value value="1e999999"/></valueQuantity></Observation>'
        with pytest.raises(Refusal, match="outside what can be stored"):
            wire.decode(wire.encode(xml_reading.decode(raw.encode())))


class TestAnything:
    """Whatever bytes come: a resource, or a refusal that is the sender's to mend."""

    @settings(deadline=None, max_examples=150)
    @given(st.data())
    def test_a_damaged_document_is_read_or_refused(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(EXAMPLES[::13]))
        raw = bytearray(xml_writing.encode(wire.decode(path.read_bytes()))[:20_000])
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at : at + data.draw(st.integers(0, 9))] = data.draw(
                st.one_of(st.binary(max_size=6), st.sampled_from(TRAPS))
            )
        try:
            found = xml_reading.decode(bytes(raw))
        except Refusal as refusal:
            assert refusal.status in (400, 413)
        else:
            assert found["resourceType"] in SERVED

    @settings(deadline=None, max_examples=150)
    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1))
    def test_any_text_comes_back(self, text: str) -> None:
        resource = {"resourceType": "Basic", "code": {"text": text, "coding": [{"display": f" {text}\n\t"}]}}
        assert xml_reading.decode(xml_writing.encode(resource)) == resource

    @settings(deadline=None, max_examples=150)
    @given(
        st.text(max_size=60),
        st.sampled_from(["{}", "<div>{}</div>", "<div xmlns='http://www.w3.org/1999/xhtml'>{}</div>"]),
    )
    def test_no_narrative_changes_what_stands_around_it(self, text: str, within: str) -> None:
        resource = {"resourceType": "Patient", "text": {"div": within.replace("{}", text)}, "active": True}
        back = xml_reading.decode(xml_writing.encode(resource))
        assert back.keys() == {"resourceType", "text", "active"}
        assert back["text"].keys() == {"div"}
