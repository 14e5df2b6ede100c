"""JSON Patch (RFC 6902) on a resource as `fhir.wire.decode` gives it: numbers stay `Decimal`, refusals quote no record.

Bounded: operations by their number, `copy` by what it adds in all, since copies of copies would double at every step.
"""

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Any

from fhir.outcome import Refusal, refuse
from fhir.wire import MAX_DEPTH

MOST_OPERATIONS = 1000
MOST_COPIED = 50_000
"""Members and items that all copies of one patch may add."""

JSON = dict[str, Any]
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_MEMBERS = {
    "add": {"value"},
    "remove": set[str](),
    "replace": {"value"},
    "move": {"from"},
    "copy": {"from"},
    "test": {"value"},
}


class _Missing(Exception):
    """What a pointer names is not there; the text says which part of it."""


def checked(operations: Sequence[Any]) -> Sequence[JSON]:
    """*operations* when they are a patch that can be understood. Refusal 400 with the number of one that is not."""
    if len(operations) > MOST_OPERATIONS:
        raise refuse(413, "too-costly", f"a patch has at most {MOST_OPERATIONS} operations, not {len(operations)}")
    for number, operation in enumerate(operations):
        at = f"[{number}]"
        if not isinstance(operation, dict):
            raise refuse(400, "structure", f"{at} must be an object with op and path", at)
        name = operation.get("op")
        if not isinstance(name, str) or name not in _MEMBERS:
            shown = f"{name[:40]!r}" if isinstance(name, str) else "missing"
            raise refuse(400, "value", f"{at}.op is {shown}; expected one of {', '.join(_MEMBERS)}", f"{at}.op")
        for member in sorted(_MEMBERS[name] - operation.keys()):
            raise refuse(400, "required", f"{at} is a {name} and needs {member!r}", f"{at}.{member}")
        for member in ("path", "from") if "from" in _MEMBERS[name] else ("path",):
            pointer = operation.get(member)
            if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")) or _bad_escape(pointer):
                said = f"{at}.{member} must be a JSON Pointer such as /name/0/family"
                raise refuse(400, "value", said, f"{at}.{member}")
    return operations


def _bad_escape(pointer: str) -> bool:
    return re.search("~(?![01])", pointer) is not None


def apply(operations: Sequence[JSON], resource: JSON) -> JSON:
    """*resource* changed by *operations*, which are `checked`; it is not touched itself.

    Refusal 422 with the number of the operation that cannot be carried out, as a whole: nothing is half patched.
    """
    document: list[Any] = [deepcopy(resource)]
    copied = 0
    for number, operation in enumerate(operations):
        at = f"[{number}]"
        name, path = operation["op"], _parts(operation["path"])
        try:
            if name in ("move", "copy"):
                source = _parts(operation["from"])
                if name == "move" and path[: len(source)] == source and path != source:
                    raise _Missing("what is moved cannot be moved into itself")
                value = _at(document, source)
                if name == "move" and path == source:
                    continue
                if name == "copy":
                    copied += _weight(value, MOST_COPIED - copied, at)
                    value = deepcopy(value)
                else:
                    _remove(document, source)
                _add(document, path, value)
            elif name == "test":
                if not _equal(_at(document, path), operation["value"]):
                    raise _Missing("the value is another one")
            elif name == "remove":
                _remove(document, path)
            else:
                if name == "replace":
                    _at(document, path)
                (_replace if name == "replace" else _add)(document, path, deepcopy(operation["value"]))
        except _Missing as missing:
            raise _not_carried_out(at, name, operation["path"], str(missing)) from None
    result = document[0]
    if not isinstance(result, dict):
        raise refuse(422, "invalid", "the patch leaves no resource: its root must be an object", "Resource")
    return result


def _not_carried_out(at: str, name: str, path: str, why: str) -> Refusal:
    return refuse(422, "processing", f"{at}, {name} at {path[:200]!r}, cannot be carried out: {why}", f"{at}.path")


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _at(document: list[Any], path: Sequence[str]) -> Any:
    node = document[0]
    for part in path:
        if isinstance(node, dict):
            if part not in node:
                raise _Missing(f"there is no {part[:64]!r}")
            node = node[part]
        elif isinstance(node, list):
            node = node[_index(node, part, len(node) - 1)]
        else:
            raise _Missing(f"{part[:64]!r} is looked for in a value that has no parts")
    return node


def _index(items: list[Any], part: str, last: int) -> int:
    if not _INDEX.fullmatch(part):
        raise _Missing(f"{part[:64]!r} is no place in an array")
    if int(part) > last:
        raise _Missing(f"there is no place {part}: the array has {len(items)}")
    return int(part)


def _within(document: list[Any], path: Sequence[str], act: Callable[[Any, str], None]) -> None:
    """Do *act* on what holds the place that *path* names."""
    holder = _at(document, path[:-1])
    if not isinstance(holder, dict | list):
        raise _Missing("it stands in a value that has no parts")
    act(holder, path[-1])


def _add(document: list[Any], path: Sequence[str], value: Any) -> None:
    def add(holder: Any, part: str) -> None:
        if isinstance(holder, dict):
            holder[part] = value
        elif part == "-":
            holder.append(value)
        else:
            holder.insert(_index(holder, part, len(holder)), value)

    if path:
        _within(document, path, add)
    else:
        document[0] = value


def _replace(document: list[Any], path: Sequence[str], value: Any) -> None:
    def replace(holder: Any, part: str) -> None:
        holder[part if isinstance(holder, dict) else int(part)] = value

    if path:
        _within(document, path, replace)
    else:
        document[0] = value


def _remove(document: list[Any], path: Sequence[str]) -> None:
    def remove(holder: Any, part: str) -> None:
        if isinstance(holder, list):
            del holder[_index(holder, part, len(holder) - 1)]
        elif part in holder:
            del holder[part]
        else:
            raise _Missing(f"there is no {part[:64]!r}")

    if not path:
        raise _Missing("the resource itself is deleted with DELETE")
    _within(document, path, remove)


def _equal(one: Any, other: Any) -> bool:
    """As RFC 6902 has it: numbers by their value, objects whatever their order; true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _weight(value: Any, room: int, at: str) -> int:
    """How many members and items *value* has. Refusal 413 beyond *room*, or when it is nested too deep."""
    found, depth = 1, 0
    level = [value]
    while level:
        depth += 1
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict | list):
                found += len(node)
                below += node.values() if isinstance(node, dict) else node
        if found > room or depth > MAX_DEPTH:
            raise refuse(413, "too-costly", f"{at} copies too much: a patch copies at most {MOST_COPIED} parts", at)
        level = below
    return found
