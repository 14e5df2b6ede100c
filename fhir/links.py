"""Links in what is written: which there are, and the same with other ones in their place."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from operator import is_
from typing import Any

from fhir.patch import Patch

JSON = dict[str, Any]
Link = Callable[[str, str], str]
"""(key, text) -> the text that takes its place."""

_LINKS = frozenset({"reference", "uri", "url", "valueUri", "valueUrl", "valueUuid", "valueOid"})
_NARRATIVE_LINK = re.compile(r"""((?:href|src)\s*=\s*["'])([^"']+)""")


def references(node: JSON | Patch | None) -> list[str]:
    """The text of every reference in a resource or a patch."""
    if isinstance(node, Patch):
        operations = node.operations if isinstance(node.operations, dict) else {"operations": node.operations}
        return references(operations) + [text for _, key, text in _texts(node) if key == "reference"]
    found: list[str] = []
    waiting: list[Any] = [node] if node is not None else []
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            for key, value in one.items():
                kind = type(value)
                if kind is dict or kind is list:
                    waiting.append(value)
                elif key == "reference" and kind is str:
                    found.append(value)
        elif type(one) is list:
            waiting += one
    return found


def relinked(node: JSON, link: Link) -> JSON:
    """*node* with other references, uris, urls and links of narrative where *link* has others.

    *node* itself stays as it is; parts in which nothing changes are the same objects.

    `Identifier.value` is text, not a link: a `urn:uuid:` there is somebody's identifier and stays.
    """
    changed: JSON | None = None
    for key, value in node.items():
        kind = type(value)
        if kind is str:
            if key in _LINKS:
                new: Any = link(key, value)
            elif key == "div" and ("href" in value or "src" in value):
                new = _NARRATIVE_LINK.sub(lambda match: match[1] + link("href", match[2]), value)
            else:
                continue
        elif kind is dict:
            new = relinked(value, link)
        elif kind is list:
            new = [relinked(item, link) if type(item) is dict else item for item in value]
            if all(map(is_, new, value)):
                continue
        else:
            continue
        if new is not value:
            if changed is None:
                changed = dict(node)
            changed[key] = new
    return node if changed is None else changed


def relinked_patch(patch: Patch, link: Link) -> Patch:
    """The same for what a patch brings, also where it brings the text of a reference alone."""
    changed = replace(patch, operations=deepcopy(relinked({"operations": patch.operations}, link)["operations"]))
    for holder, key, text in _texts(changed):
        holder["value" if "op" in holder else "valueString"] = link(key, text)
    return changed


def _texts(patch: Patch) -> Iterator[tuple[JSON, str, str]]:
    """Links that an operation brings as plain text: where the text stands, the element it is for, and the text."""
    if not isinstance(patch.operations, dict):
        for operation in patch.operations:
            key = operation["path"].rpartition("/")[2]
            if key in _LINKS and isinstance(operation.get("value"), str):
                yield operation, key, operation["value"]
        return
    for parameter in patch.operations.get("parameter", ()):
        parts = {part["name"]: part for part in parameter.get("part", ())}
        key = str(parts.get("path", {}).get("valueString", "")).rpartition(".")[2]
        if key in _LINKS and "valueString" in parts.get("value", {}):
            yield parts["value"], key, parts["value"]["valueString"]
