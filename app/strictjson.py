"""JSON as a careful server reads it: UTF-8, no duplicate keys, no NaN, no abyss of brackets."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn

from planner.errors import FieldProblem, FitproofError
from planner.request.validation.control_characters import LoneSurrogateError, checked_text

# Deeper than any config.json (vision-language ones reach 5), shallower than any recursion limit.
DEEPEST = 32
# A config.json of a language model has about 200. Each bad key costs a sentence, so there is an end to them.
MOST_VALUES = 10_000


class InvalidJsonError(FitproofError):
    """The body is not a JSON document that can be trusted to mean one thing."""

    status = 400
    code = "invalid_json"


class UnprintableTextError(InvalidJsonError):
    """It is valid, unambiguous JSON, but holds text that cannot be meant, such as control characters."""

    status = 422
    code = "unprintable_text"


def loads(body: bytes, deepest: int = DEEPEST) -> Any:
    """Decode `body`; a byte order mark before it is no part of it (RFC 8259, section 8.1).

    Raises:
        InvalidJsonError: says where the document breaks and how to mend it; `UnprintableTextError` among them.
    """
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _complaint(f"is not UTF-8 from byte {error.start} on; encode it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise _complaint(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _complaint(f"nests deeper than {deepest} levels; flatten it") from None
    except ValueError as error:
        # Python refuses to read integers of more than 4300 digits (sys.set_int_max_str_digits).
        raise _complaint(f"has a number with too many digits ({error})") from None
    check_values(value, deepest)
    return value


def _complaint(message: str, field: str = "request") -> InvalidJsonError:
    return InvalidJsonError("The body is not a JSON document that can be read.", [FieldProblem(field, message)])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _complaint("is given twice; keep one", key[:60])
            seen.add(key)
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise _complaint(f"holds {name}, which JSON does not have; write a number or null")


def check_values(value: Any, deepest: int = DEEPEST) -> None:
    """Refuse abysses, infinities, lone surrogates and control characters in a decoded document.

    It is walked level by level, so that no document can exhaust the stack.

    Raises:
        InvalidJsonError: names the place.
    """
    level: list[tuple[str, Any]] = [("", value)]
    left = MOST_VALUES
    for _ in range(deepest):
        level = [child for path, parent in level for child in _children(path, parent)]
        left -= len(level)
        if left < 0:
            raise _complaint(f"holds more than {MOST_VALUES} values; remove what is not needed")
        if not level:
            return
    raise _complaint(f"nests deeper than {deepest} levels; flatten it", level[0][0][:60])


def _children(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in value:
            _check_text(key, path)
        return [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
    if isinstance(value, list):
        return [(f"{path}.{index}" if path else str(index), item) for index, item in enumerate(value)]
    if isinstance(value, float) and not isfinite(value):
        raise _complaint("is too large a number", path or "request")
    if isinstance(value, str):
        _check_text(value, path)
    return []


def _check_text(text: str, path: str) -> None:
    try:
        checked_text(text)
    except LoneSurrogateError as error:
        raise _complaint(str(error), path or "request") from None
    except ValueError as error:
        title = "The body holds text that cannot be shown."
        raise UnprintableTextError(title, [FieldProblem(path or "request", str(error))]) from None
