"""What is JSON to the hub, and what is refused before anyone looks at FHIR."""

import time
from decimal import Decimal

import pytest

from fhir.outcome import Refusal
from fhir.wire import MAX_DEPTH, decode, encode

REFUSED = {
    "truncated object": (b'{"a": 1,', "ends too early, at byte 8"),
    "truncated string": (b'{"a": "x', "ends too early"),
    "empty body": (b"", "ends too early"),
    "syntax error": (b'{"a": tru3}', "byte 10"),
    "trailing text": (b'{"a": 1} x', "trailing characters"),
    "NaN": (b'{"a": NaN}', "byte 6"),
    "Infinity": (b'{"a": -Infinity}', "byte 7"),
    "array": (b"[1]", "must be one JSON object, it is an array"),
    "null": (b"null", "it is null"),
    "text": (b'"x"', "it is a string"),
    "lone high surrogate": (rb'{"a": "x\ud83d"}', "half of a surrogate pair"),
    "lone low surrogate": (rb'{"a": "\udc00x"}', "half of a surrogate pair"),
    "pair and a half": (rb'{"a": "\ud83d\ude00\ud83d"}', "half of a surrogate pair"),
    "NUL": (rb'{"a": ["\u0000"]}', "NUL"),
    "NUL in a key": (rb'{"a\u0000": 1}', "NUL"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "malformed"),
    "raw control character": (b'{"a": "x\ny"}', "malformed"),
    "duplicate key": (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands twice"),
    "duplicate key, spaced": (b'{"a" : 1, "a": 2}', "'a' stands twice"),
    "duplicate key, escaped": (rb'{"a\u0062": 1, "ab": 2}', "'ab' stands twice"),
    "duplicate key beside a quoted colon": (rb'{"x": "\":", "a": 1, "a": 2}', "'a' stands twice"),
    "huge exponent": (b'{"a": 1e999999999}', "outside what can be stored"),
    "absurd exponent": (b'{"a": 1E-999999999999999999999999}', "outside what can be stored"),
    "decimal of 10,000 digits": (b'{"a": 0.' + b"1" * 10_000 + b"}", "outside what can be stored"),
    "integer of 10,000 digits": (b'{"a": ' + b"9" * 10_000 + b"}", "out of range"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_the_reason(name: str) -> None:
    raw, reason = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        decode(raw)
    assert caught.value.status == 400
    assert reason in caught.value.issues[0].diagnostics


@pytest.mark.parametrize(
    "raw", [b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"a":' * 65 + b"1" + b"}" * 65]
)
def test_deep_nesting_is_refused_at_once(raw: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(Refusal, match="deeper than 64"):
        decode(raw)
    assert time.process_time() - begin < 0.5


def test_the_deepest_allowed_nesting_is_read() -> None:
    assert decode(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)


@pytest.mark.parametrize(
    "number", ["1.50", "0.0", "-0.00", "100.000", "1E+2", "3.14159265358979323846", "12345678901234567890", "6.0E-7"]
)
def test_numbers_keep_their_written_precision(number: str) -> None:
    assert encode(decode(f'{{"v":{number}}}'.encode())) == str(Decimal(number)).join(['{"v":', "}"]).encode()


def test_text_travels_unchanged() -> None:
    raw = '{"a":"snow \u2603 \U0001f600 \\" \\\\u0000 \u2028"}'.encode()
    assert encode(decode(raw)) == raw
    assert decode(rb'{"a": "\ud83d\ude00"}') == {"a": "\U0001f600"}


def test_text_that_is_not_unicode_is_not_written() -> None:
    with pytest.raises(Refusal, match="surrogate"):
        encode({"a": "\ud800"})


def test_colons_and_quotes_inside_text_are_no_keys() -> None:
    assert decode(rb'{"a": "{\"b\": 1, \"b\": 2}", "b" : "c\\"}') == {"a": '{"b": 1, "b": 2}', "b": "c\\"}


@pytest.mark.parametrize("part", [b"[],", b'{"a":1},', b"1.5,"])
def test_a_body_that_would_fill_the_memory_is_refused_unread(part: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(Refusal) as caught:
        decode(b'{"a":[' + part * 2_000_000 + b"1]}")
    assert caught.value.status == 413
    assert time.process_time() - begin < 0.5
