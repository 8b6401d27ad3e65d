"""Text that a stranger pasted, as a mapping. YAML and JSON both; no tags, no bombs, no abyss, no second meaning."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from app import strictjson
from app.imports.editing import spliced
from planner.errors import FieldProblem, InvalidRequestError

# The longest example config of Axolotl and LLaMA-Factory is under 8 KiB; a config.json of a large MoE under 30 KiB.
MOST_CHARACTERS = 64 * 1024
MOST_NODES = 5_000
DEEPEST = 16
# `config = {...}`, as the dictionary stands in a notebook.
_ASSIGNMENT = re.compile(r"\A\s*[A-Za-z_]\w*\s*(?::\s*\w+\s*)?=\s*(?=[{\[])")
_INDENTED_LIST = re.compile(r"^\w[^\n]*:[^\n]*\n(?:\s*#[^\n]*\n)*  - ", re.MULTILINE)
_PLAIN_TAGS = {None, "!"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A mapping with what is needed to write it back as its author would recognise it."""

    config: dict[str, Any]
    text: str
    is_json: bool


class UnreadableConfigError(InvalidRequestError):
    """The text is no configuration that can be read safely."""

    code = "unreadable_config"


def load(text: str) -> Loaded:
    """Read `text` as JSON where it is JSON, otherwise as YAML 1.2, which a Python dictionary of literals is too.

    Raises:
        UnreadableConfigError: says what stands in the way, with the line where that is known.
    """
    if len(text) > MOST_CHARACTERS:
        raise refusal(f"is longer than {MOST_CHARACTERS // 1024} KiB; a training config is a page or two")
    if text.lstrip().startswith("{"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            pass  # not JSON: a Python dictionary, or YAML in braces, both read below
        else:
            return Loaded(_mapping(strictjson.loads(text.encode())), text, is_json=True)
    text = _ASSIGNMENT.sub("", text.removeprefix("\ufeff"))
    try:
        _inspect(text)
        return Loaded(_mapping(_yaml(text).load(text)), text, is_json=False)
    except DuplicateKeyError as error:
        raise refusal(f"gives a key twice: {_where(error)}; keep one") from None
    except YAMLError as error:
        raise refusal(f"is neither YAML nor JSON: {_where(error)}") from None
    except (ValueError, RecursionError) as error:
        raise refusal(f"cannot be read: {str(error)[:200]}") from None


def dump(loaded: Loaded, config: Mapping[str, Any]) -> str:
    """Write `config` back as `loaded` was written: only the places that changed, wherever YAML lets them be told."""
    if loaded.is_json:
        return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    text = spliced(loaded.text, loaded.config, config)
    if text is not None and _says(text, config):
        return text
    out = StringIO()
    _yaml(loaded.text).dump(config, out)
    return out.getvalue()


def _says(text: str, config: Mapping[str, Any]) -> bool:
    """Whether `text` still means `config`: an anchor may have carried a change elsewhere."""
    try:
        return bool(_yaml(text).load(text) == config)
    except YAMLError:
        return False


def _yaml(text: str) -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    if _INDENTED_LIST.search(text):
        yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def refusal(message: str) -> UnreadableConfigError:
    """The error for a text that cannot be used."""
    return UnreadableConfigError("The configuration cannot be read.", [FieldProblem("config", message)])


def _inspect(text: str) -> None:
    """Walk the events before anything is built: no tags, no cycles, and a bounded size once aliases are expanded."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in YAML(typ="rt", pure=True).parse(text):
        if isinstance(event, NodeEvent) and not isinstance(event, AliasEvent):
            _refuse_tag(event)
        if isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise refusal(f"refers to *{event.anchor} inside itself")
            total += sizes[event.anchor]
        elif isinstance(event, CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        if total > MOST_NODES or len(open_nodes) > DEEPEST:
            raise refusal(f"holds more than {MOST_NODES} values or {DEEPEST} levels once its aliases are followed")


def _refuse_tag(event: NodeEvent) -> None:
    tag = getattr(event, "tag", None)
    if str(tag) not in {str(plain) for plain in _PLAIN_TAGS} and not str(tag).startswith("tag:yaml.org,2002:"):
        raise refusal(f"holds the tag {str(tag)[:60]}; write plain values")
    if str(tag).startswith("tag:yaml.org,2002:python"):
        raise refusal(f"holds the tag {str(tag)[:60]}; write plain values")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise refusal("is not a list of settings; paste the whole file, a key and its value on each line")
    if any(not isinstance(key, str) for key in value):
        raise refusal("has a key that is not a word; quote it")
    return value


def _where(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it ends too early"
    return f"{problem.strip()[:200]}" + (f", line {mark.line + 1}" if mark else "")
