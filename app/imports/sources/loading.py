"""Text that a stranger pasted, as a mapping. YAML and JSON both; no tags, no bombs, no abyss, no second meaning."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from app import strictjson
from app.imports.effects import Effect
from app.imports.sources.editing import spliced
from app.reading import reading
from planner.errors import FieldProblem, InvalidRequestError
from planner.request.validation.control_characters import checked_text

# The longest example config of Axolotl and LLaMA-Factory is under 8 KiB; a config.json of a large MoE under 30 KiB.
MOST_CHARACTERS = 64 * 1024
MOST_NODES = 5_000
DEEPEST = 16
# `config = {...}`, as the dictionary stands in a notebook.
_ASSIGNMENT = re.compile(r"\A\s*[A-Za-z_]\w*\s*(?::\s*\w+\s*)?=\s*(?=[{\[])")
# The core schema's kinds and the two of the failsafe schema (https://yaml.org/spec/1.2.2/#103-core-schema).
_TAGS = {"None", "!"} | {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}
# A word without quotes. The longest in the wild are hub ids and paths; templates stand in quotes or blocks.
MOST_PLAIN_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Loaded:
    """A mapping with what is needed to write it back as its author would recognise it.

    Of a program, `unread`: arguments that are no literals, as its source has them; `effects`: what else it does.
    """

    config: dict[str, Any]
    text: str
    is_json: bool
    is_command: bool = False
    unread: Mapping[str, str] = field(default_factory=dict)
    effects: Mapping[str, Effect] = field(default_factory=dict)


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
    text = _ASSIGNMENT.sub("", text)
    with reading("YAML or JSON", "config"):
        return Loaded(_from_yaml(text), text, is_json=False)


def _from_yaml(text: str) -> dict[str, Any]:
    try:
        _inspect(text)
        config = _mapping(_yaml(text).load(text))
    except DuplicateKeyError as error:
        raise refusal(f"gives a key twice: {_where(error)}; keep one") from None
    except YAMLError as error:
        raise refusal(f"is neither YAML nor JSON: {_where(error)}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        # What the YAML library raises for words that its tag does not fit: `!!bool x`, `!!int ""`, `-_`.
        plain = "holds a number, a date or a tagged value that is none; write it plainly or in quotes"
        raise refusal(f"{plain} ({str(error)[:100]})") from None
    _check_values(config)
    return config


def _check_values(value: Any) -> None:
    """Refuse what no JSON document could say: keys that are no words, lone surrogates, control characters."""
    if isinstance(value, str):
        try:
            checked_text(value)
        except ValueError as error:
            raise refusal(str(error)) from None
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | None):
                raise refusal("has a key that is a list or a mapping; write a word")
            _check_values(key)
            _check_values(item)
    elif isinstance(value, list):
        for item in value:
            _check_values(item)


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
    if _indents_lists(text):
        yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _indents_lists(text: str) -> bool:
    """Whether a list of the outermost mapping stands two places to the right of its key."""
    under_key = False
    for line in text.splitlines():
        if under_key and line.startswith("  - "):
            return True
        if not line.lstrip().startswith("#"):
            under_key = ":" in line and (line[0].isalnum() or line[0] == "_")
    return False


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
            if event.style is None and len(event.value) > MOST_PLAIN_CHARACTERS:
                raise refusal(f"holds a word of more than {MOST_PLAIN_CHARACTERS} characters; put long text in quotes")
            if event.anchor:
                sizes[event.anchor] = 1
        if total > MOST_NODES or len(open_nodes) > DEEPEST:
            raise refusal(f"holds more than {MOST_NODES} values or {DEEPEST} levels once its aliases are followed")


def _refuse_tag(event: NodeEvent) -> None:
    tag = str(getattr(event, "tag", None))
    if tag not in _TAGS:
        raise refusal(f"holds the tag {tag[:60]}; write plain values")


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
