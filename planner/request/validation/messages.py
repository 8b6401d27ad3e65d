"""Pydantic's errors as sentences: one per bad field, the path as the caller wrote it, and what to write instead."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from planner.errors import FieldProblem
from planner.request.validation.disagreement import FieldsDisagreeError

# A union names its branch in the error path; ours start with this mark, so that the path can drop them.
BRANCH_MARK = "~"
# The error type of our unions when no branch takes the JSON kind that was written.
WRONG_KIND = "wrong_kind"

# A body of a mebibyte can hold a hundred thousand bad keys. More than this is no help.
MOST_PROBLEMS = 100
MOST_SUGGESTIONS = 20
_SHOWN_CHARACTERS = 60

_BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "literal_error": ("expected", "must be {}"),
    "string_too_short": ("min_length", "must have at least {} character(s)"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "string_pattern_mismatch": ("pattern", "must match {}"),
    "too_short": ("min_length", "must name at least {}"),
    "too_long": ("max_length", "must name at most {}"),
}
_KINDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode; remove the lone surrogate",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}
_KINDS_WITHOUT_INPUT = {"missing": "is required"}


def field_problems(
    details: Sequence[Mapping[str, Any]], known_keys: Collection[str] = (), root: str = "request"
) -> list[FieldProblem]:
    """Turn the rows of `ValidationError.errors()` into problems.

    `known_keys` are the spellings an unknown key is compared with; `root` names the document itself.
    """
    problems = [problem for detail in details[:MOST_PROBLEMS] for problem in _problems(detail, root)]
    extra = len(details) - MOST_PROBLEMS
    for index in [i for i, problem in enumerate(problems) if problem.message == UNKNOWN_KEY][:MOST_SUGGESTIONS]:
        problems[index] = _with_suggestion(problems[index], known_keys)
    if extra > 0:
        problems.append(FieldProblem(root, f"and {extra} more problems; correct these first"))
    return problems


UNKNOWN_KEY = "unknown key; check the spelling or remove it"


def _problems(detail: Mapping[str, Any], root: str) -> list[FieldProblem]:
    """One, or those of several fields that disagree."""
    error = detail.get("ctx", {}).get("error")
    if not isinstance(error, FieldsDisagreeError):
        return [_problem(detail, root)]
    return [_problem({**detail, "msg": said}, root) for said in error.problems]


def _problem(detail: Mapping[str, Any], root: str) -> FieldProblem:
    path = ".".join(_shown(part) for part in detail["loc"] if not str(part).startswith(BRANCH_MARK))
    kind = detail["type"]
    if kind == "extra_forbidden":
        return FieldProblem(path, UNKNOWN_KEY)
    if kind == "value_error":
        message = str(detail["msg"]).removeprefix("Value error, ")
        if not path and ": " in message:
            path, message = message.split(": ", 1)
        return FieldProblem(path or root, message)
    if kind in _KINDS_WITHOUT_INPUT:
        return FieldProblem(path or root, _KINDS_WITHOUT_INPUT[kind])
    if kind in _KINDS or kind == WRONG_KIND:
        message = _KINDS.get(kind, str(detail["msg"]))
    elif kind in _BOUNDS:
        key, sentence = _BOUNDS[kind]
        message = sentence.format(str(detail.get("ctx", {}).get(key)).replace("'", ""))
    else:
        return FieldProblem(path or root, str(detail["msg"]))
    return FieldProblem(path or root, f"{message}; got {_described(detail.get('input'))}")


def _with_suggestion(problem: FieldProblem, known_keys: Collection[str]) -> FieldProblem:
    written = problem.field.rpartition(".")[2]
    near = difflib.get_close_matches(written, known_keys, n=1, cutoff=0.6)
    return FieldProblem(problem.field, f"unknown key; did you mean {near[0]}?") if near else problem


def _described(value: object) -> str:
    """What was written, short enough to read: scalars as JSON writes them, containers by their kind."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_shown(value)}"'
    if isinstance(value, int | float):
        # An int may have more digits than Python agrees to print (sys.set_int_max_str_digits).
        return "a huge number" if isinstance(value, int) and value.bit_length() > 256 else _shown(value)
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else "that"


def _shown(part: object) -> str:
    text = str(part).encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
