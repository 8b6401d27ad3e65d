"""The query string and the request document, each made from the other. The URL is the plan.

Names in the URL are the ecosystem's own (`per_device_train_batch_size`, `bnb_4bit_use_double_quant`), flat, and a value
that equals the default is left out, so that a shared link is as short as the question it asks.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.forms import beyond_controls, left_out_keys
from app.forms.fields import BY_NAME, DEFAULTS, FIELDS, QUANTIZATIONS, Document, Field, modules_text, numbers_text
from app.forms.plan_address import applies, query_of_values
from app.lora_options import names_written
from app.reading import reading
from planner.answer.not_planned import NotPlanned
from planner.errors import FieldProblem, InvalidRequestError
from planner.request.parallel import FSDP_PRESETS, ZERO_PRESETS, DeepSpeed, Fsdp
from planner.request.parallel_words import counted_cards, with_cards
from planner.request.schema import CHECKPOINT_KINDS, Request
from planner.request.training_options import Qat
from planner.request.unsloth import UNSLOTH
from planner.request.validation.control_characters import checked_text

_MODULES = {"target_modules", "optim_target_modules", "llm_int8_skip_modules"} | names_written("modules", "names")
_PATTERNS, _NUMBERS = names_written("patterns"), names_written("numbers")


@dataclass(frozen=True, slots=True)
class PlanForm:
    """What a person sent: every control's text, what is wrong with which, and the document if nothing is.

    `needs_dry_run`: nothing is wrong but that no formula knows this kind of model, which transformers builds.
    `not_planned`: what the file behind an imported plan asks for beside it.
    """

    values: dict[str, str]
    document: Document
    errors: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    needs_dry_run: bool = False
    not_planned: tuple[NotPlanned, ...] = ()

    @property
    def query(self) -> str:
        """The shortest query string that says the same."""
        return query_of_values(self.values)

    def refused(self, problems: Iterable[FieldProblem]) -> "PlanForm":
        """The same form with each problem at the control it belongs to; the rest is kept."""
        found = {field_at(problem.field): problem.message for problem in problems}
        return replace(self, errors=self.errors | found)


def read_form(query: Iterable[tuple[str, str]]) -> PlanForm:
    """Read a query string's pairs. Empty values mean the default; unknown keys are reported, not guessed at."""
    pairs = list(query)
    given = {key: value.strip() for key, value in pairs if key in BY_NAME and value.strip()}
    if given.get("model"):
        # A model typed over a pasted config is the one that is meant.
        given.pop("config", None)
    if _counts_cards(given.get("gpu", "")) and given.get("gpus") == DEFAULTS["gpus"]:
        # A count typed with the card, 2x3090, is what is meant.
        given.pop("gpus")
    values = DEFAULTS | given
    document: Document = {}
    errors: dict[str, str] = {}
    for item in FIELDS:
        if item.name not in given or not applies(item, values) or _nobody_chose(item, values):
            continue
        try:
            with reading("a setting", item.name):
                _put(document, item.path, _read(item, values[item.name]))
        except InvalidRequestError as error:
            errors[item.name] = error.problems[0].message
    beside = next((value for key, value in pairs if key == left_out_keys.NAME), "")
    not_planned: tuple[NotPlanned, ...] = ()
    try:
        not_planned = left_out_keys.read(beside)
        values = values | {left_out_keys.NAME: left_out_keys.written(not_planned)}
    except ValueError as error:
        errors["model"] = f"{left_out_keys.NAME}: {error}"
    ignored = tuple(dict.fromkeys(key for key, _ in pairs if key not in BY_NAME and key != left_out_keys.NAME))
    beyond = document.pop(beyond_controls.NAME, {})
    document = _finish(document, values)
    for path, value in beyond.items():
        # A control that the user changed is what is meant.
        if not any(item.path == path and item.name in given and applies(item, values) for item in FIELDS):
            _put(document, path, value)
    return PlanForm(values, document, errors, ignored, not_planned=not_planned)


def field_at(path: str) -> str:
    """The control that holds a dotted path of the request document."""
    parts = path.split(".")
    for item in FIELDS:
        if ".".join(item.path) == ".".join(parts[: len(item.path)]) and (len(item.path) > 1 or len(parts) == 1):
            return item.name
    return parts[0] if parts[0] in BY_NAME else "model"


def query_of(document: Mapping[str, Any]) -> str:
    """The shortest query string for a complete request document (`Request.model_dump(mode="json")`)."""
    return query_of_values(values_of(document))


def values_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Every control's text for a complete request document, and what no control says.

    What a checkpoint brings along is left out: it comes again.
    """
    if _get(document, ("quantization", "quant_method")) in CHECKPOINT_KINDS:
        document = {key: value for key, value in document.items() if key != "quantization"}
    if isinstance(document.get("fsdp"), str) or isinstance(document.get("deepspeed"), str):
        document = _with_whole_sections(document)
    values = _told(document)
    try:
        of_controls = Request.parse(read_form(values.items()).document).model_dump(mode="json")
    except InvalidRequestError:
        of_controls = {}
    beyond = beyond_controls.differences(document, of_controls)
    # A name that no control can hold, such as one that begins with a blank, stands there alone.
    alone = beyond_controls.read_differences(beyond or "{}")
    names = {item.name: "" for item in FIELDS if len(item.path) == 1 and item.path in alone}
    return values | names | {beyond_controls.NAME: beyond}


def _counts_cards(gpu: str) -> bool:
    try:
        return "+" in gpu or counted_cards(gpu) is not None
    except ValueError:
        return True  # a count that the request refuses in its own words


def _with_whole_sections(document: Mapping[str, Any]) -> Document:
    """The document with the strategies that advice writes as words made into sections."""
    read = with_cards(document)
    sections: dict[str, type[Fsdp | DeepSpeed]] = {"fsdp": Fsdp, "deepspeed": DeepSpeed}
    whole = {name: kind.model_validate(read[name]) for name, kind in sections.items() if read.get(name) is not None}
    return read | {name: section.model_dump(mode="json") for name, section in whole.items()}


def _told(document: Mapping[str, Any]) -> dict[str, str]:
    values = dict(DEFAULTS)
    for item in FIELDS:
        found = _get(document, item.path)
        if found and item.name in _PATTERNS:
            values[item.name] = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
        elif found is not None and not isinstance(found, Mapping):
            values[item.name] = _as_text(item.name, found)
    values |= dict(_objects_in_a_line(document))
    if values["gradient_checkpointing"] == UNSLOTH:
        values["gradient_checkpointing"] = "on"
    if isinstance(document.get("model"), Mapping):
        values |= {"model": "", "config": json.dumps(document["model"], separators=(",", ":"))}
    elif document.get("model") is not None:
        values["config"] = ""
    if isinstance(document.get("gpu"), Mapping):
        values |= {"gpu": document["gpu"].get("name", ""), "gpu_memory": str(document["gpu"]["total_memory_bytes"])}
    if isinstance(document.get("quantization"), Mapping):
        values["quantization"] = _quantization_name(document["quantization"])
    if isinstance(document.get("stack"), Mapping):
        values["stack"] = "custom"
    for name, section, presets in (("fsdp", Fsdp, FSDP_PRESETS), ("deepspeed", DeepSpeed, ZERO_PRESETS)):
        if isinstance(document.get(name), Mapping):
            values[name] = _preset(document[name], section, presets)
    return values


def _as_text(name: str, found: Any) -> str:
    if name in _NUMBERS:
        return numbers_text(found)
    return modules_text(found) if name in _MODULES else _text(found)


def _preset(found: Mapping[str, Any], section: type[Fsdp | DeepSpeed], presets: Mapping[str, Document]) -> str:
    """The words that stand for a whole section; empty where none say it."""
    wanted = section.model_validate(found)
    return next((words for words, fields in presets.items() if section.model_validate(fields) == wanted), "")


def changed(document: Mapping[str, Any], change: Mapping[str, Any]) -> Document:
    """A copy of the document with dotted paths set, as advice writes them."""
    copy: Document = json.loads(json.dumps(document))
    for path, value in change.items():
        _put(copy, tuple(path.split(".")), value)
    return copy


def _nobody_chose(item: Field, values: Mapping[str, str]) -> bool:
    """The form's own targets are not a choice: where PEFT refuses them, the model's own take their place. Nor is
    checkpointing that is on with Unsloth, which does it in its own way.
    """
    own_way = item.name == "gradient_checkpointing" and values["stack"] == UNSLOTH
    return (own_way or item.name == "target_modules") and values[item.name] == item.default


def _read(item: Field, text: str) -> Any:
    """Read one control.

    Raises:
        InvalidRequestError: says what to write instead.
    """
    try:
        checked_text(text)
        return _value(item, text)
    except ValueError as error:
        raise InvalidRequestError("This setting cannot be read.", [FieldProblem(item.name, str(error))]) from None


def _value(item: Field, text: str) -> Any:
    if item.name == "quantization":
        if text not in QUANTIZATIONS:
            msg = f"choose one of {', '.join(QUANTIZATIONS)}"
            raise ValueError(msg)
        return dict(QUANTIZATIONS[text])
    return item.read(text)


def _finish(document: Document, values: Mapping[str, str]) -> Document:
    """Fill in what the form means but does not say: the chapter's quantization, the name of a card typed by hand."""
    if isinstance(document.get("quantization"), dict):
        chapter = {"bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}
        document["quantization"] = chapter | QUANTIZATIONS["nf4"] | document["quantization"]
        if values["quantization"] in ("int8", "int4"):
            # What a kind does not read keeps its own default, as in a document that says the kind alone.
            for key in QUANTIZATIONS["nf4"]:
                del document["quantization"][key]
    if isinstance(document.get("gpu"), dict):
        named = {"name": values["gpu"]} if values["gpu"] else {}
        document["gpu"] = {"compute_capability": values["compute_capability"]} | document["gpu"] | named
    if document.get("stack") == "custom":
        document["stack"] = {}
    return document


def _put(document: Document, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(document.get(key), dict):
            document[key] = {}
        document = document[key]
    document[path[-1]] = value


def _get(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _objects_in_a_line(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Objects that TrainingArguments takes as text, too."""
    kernels, arguments = (_get(document, ("training", name)) for name in ("liger_kernel_config", "optim_args"))
    if isinstance(kernels, Mapping):
        yield "liger_kernel_config", ",".join(name for name, on in kernels.items() if on)
    if isinstance(prepared := _get(document, ("training", "qat")), Mapping):
        yield "qat", str(Qat.model_validate(prepared).group_size)
    if isinstance(arguments, Mapping):
        given = {name: _text(value) for name, value in arguments.items() if value is not None}
        yield "optim_args", ", ".join(f"{name}={text}" for name, text in given.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _quantization_name(quantization: Mapping[str, Any]) -> str:
    if quantization.get("quant_method") == "hqq":
        return "int4"
    if quantization.get("load_in_8bit"):
        return "int8"
    return str(quantization.get("bnb_4bit_quant_type", "fp4"))
