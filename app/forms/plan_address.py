"""The address of a plan: its controls' texts as a query string, without the defaults."""

from collections.abc import Callable, Collection, Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from app.forms import left_out_keys
from app.forms.fields import DEFAULTS, FIELDS, STACK_SWITCHES, Field
from planner.errors import FieldProblem, InvalidRequestError

# Three times as many as there are controls.
MOST_PAIRS = 100
# What stays as it is in a query string.
_READABLE = "/,:"


def pairs_in(address: str) -> list[tuple[str, str]]:
    """The pairs of a whole link, of a path, or of the bare query itself.

    Raises:
        InvalidRequestError: it is no address of a plan.
    """
    try:
        return parse_qsl(urlsplit(address).query or address.lstrip("?"), max_num_fields=MOST_PAIRS)
    except ValueError:
        problem = FieldProblem("plan", f"paste the address of a plan, with at most {MOST_PAIRS} parameters")
        raise InvalidRequestError("This is no address of a plan.", [problem]) from None


def query_of_values(values: Mapping[str, str]) -> str:
    """The query string without the defaults; slashes and commas stay readable."""
    return queries_varying(values, ())({})


def queries_varying(values: Mapping[str, str], names: Collection[str]) -> Callable[[Mapping[str, str]], str]:
    """`query_of_values` for many values that differ in the controls `names` only, on which no other depends."""
    merged: dict[str, str] = DEFAULTS | dict(values)
    parts = [item if item.name in names else _pair(item, merged) for item in FIELDS]
    beside = merged.get(left_out_keys.NAME)
    last = urlencode({left_out_keys.NAME: beside}, quote_via=quote, safe=_READABLE) if beside else ""

    def query(change: Mapping[str, str]) -> str:
        changed = {**merged, **change}
        written = [part if isinstance(part, str) else _pair(part, changed) for part in parts]
        return "&".join(filter(None, (*written, last)))

    return query


def _pair(item: Field, values: Mapping[str, str]) -> str:
    """The control's part of a query string; empty where it says nothing."""
    value = values[item.name]
    if not value or value == item.default or not applies(item, values):
        return ""
    return urlencode({item.name: value}, quote_via=quote, safe=_READABLE)


def applies(item: Field, values: Mapping[str, str]) -> bool:
    """Whether a control means anything beside the others: no quantization without QLoRA, no rank without LoRA."""
    if item.name in STACK_SWITCHES:
        return values["stack"] == "custom"
    if item.path[0] == "quantization":
        return values["method"] == "qlora"
    if item.path[0] == "lora":
        return values["method"] != "full"
    if item.name == "compute_capability":
        return bool(values["gpu_memory"])
    return not (item.name == "model" and values["config"])
