"""A changed value written into the text it came from, character by character, so that nothing else moves.

A YAML library that writes a file again keeps comments and order, but not `null`, mixed indents or blanks; a person
comparing the two files would see those. So only the places that changed are written. What cannot be done this way
(a mapping in braces, a value that an alias repeats) is left to the library.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_NOT_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def spliced(text: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Return `text` with every value of `after` that is not the one of `before`; None where that needs a rewrite."""
    root = YAML(typ="rt", pure=True).compose(text)
    if not isinstance(root, MappingNode) or root.flow_style:
        return None
    places = {key.value: (key, value) for key, value in root.value}
    newline = "\r\n" if "\r\n" in text else "\n"
    added = [
        f"{key}: {_written(value)}{newline}" for key, value in after.items() if key not in before and value is not None
    ]
    changed = [key for key, value in after.items() if key in before and value != before[key]]
    if any(key not in places or _is_alias(*places[key]) for key in changed):
        return None
    # From the end to the start, so that what is still to be written stays where it was found.
    for key, value in sorted((places[name] for name in changed), key=lambda pair: -pair[0].start_mark.index):
        text = _replaced(text, key, value, after[key.value])
    if added and not text.endswith("\n"):
        text += newline
    return text + "".join(added)


def _is_alias(key: Node, value: Node) -> bool:
    """Whether the value stands elsewhere, where its anchor is: an alias is the anchored node itself."""
    return bool(value.start_mark.index < key.end_mark.index)


def _replaced(text: str, key: Node, old: Node, value: Any) -> str:
    colon = text.index(":", key.end_mark.index) + 1
    if not isinstance(old, ScalarNode):
        return f"{text[:colon]} {_written(value)}{text[_end(old) :]}"
    start, end = old.start_mark.index, old.end_mark.index
    if start == end:  # nothing stands there, and the marks are those of whatever comes next
        return f"{text[:colon]} {_written(value)}{text[colon:]}"
    return f"{text[:start]}{_written(value, text[start])}{text[end:]}"


def _end(node: Node) -> int:
    """Where a node's own text ends. A block's end mark is the start of what comes after it, comments included."""
    if not isinstance(node, SequenceNode | MappingNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last if isinstance(node, SequenceNode) else last[1])


def _written(value: Any, quote: str = "") -> str:
    """A value as YAML that is also JSON wherever it is not a plain word; `quote` is what stood around the old one."""
    if isinstance(value, str):
        if quote == "'" and "'" not in value:
            return f"'{value}'"
        plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_WORDS and quote != '"'
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)
