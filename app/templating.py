"""Jinja, and the only place where bytes become GiB."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.ext import Extension
from markupsafe import Markup

from app.folders import house_folder
from app.glossary import MEANINGS
from app.static_files import static_url
from planner.request.optimizer_names import NAMES
from planner.request.peft_types import METHODS
from planner.units import GIB, KIB, MIB

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)
# The pages that keep a plan at hand, each with the settings that it reads; none named are all of them.
KEEPING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("/plan", "/map", "/compare", "/guide", "/models", "/gpus"), ()),
    "/inference": ("model", "gpu"),
    "/recommend": ("gpu",),
}
_UNITS = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def gib(size_bytes: float, digits: int | None = None) -> str:
    """`9.47 GiB`, one digit less from ten on."""
    amount = size_bytes / GIB
    if digits is None:
        digits = 2 if abs(amount) < 9.995 else 1
    return f"{amount:,.{digits}f}{NARROW_SPACE}GiB".replace("-", MINUS)


def size(size_bytes: float) -> str:
    """Three digits and the unit that suits them: B, KiB, MiB or GiB. Never four digits: 0.98 GiB, not 1,002 MiB."""
    unit, name = next((pair for pair in _UNITS if abs(size_bytes) * 1.024 >= pair[0]), (1, "B"))
    amount = size_bytes / unit
    digits = 0 if unit == 1 or abs(amount) >= 99.95 else 2 if abs(amount) < 9.995 else 1
    return f"{amount:,.{digits}f}{NARROW_SPACE}{name}".replace("-", MINUS)


def gb(size_bytes: float, digits: int = 1) -> str:
    """`6.5 GB` (10**9), only to quote the textbook."""
    return f"{size_bytes / 10**9:,.{digits}f}{NARROW_SPACE}GB"


def count(number: float) -> str:
    """`8.03 B` parameters, `41.9 M`, or the number itself."""
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if number >= 0.9995 * unit:  # what three digits round up to the next unit is written in that
            return f"{number / unit:.3g}{NARROW_SPACE}{name}"
    return thousands(number)


def decimals(number: float, digits: int) -> str:
    """`1,234.5`."""
    return f"{number:,.{digits}f}"


def thousands(number: float) -> str:
    """`1,234,567`."""
    return f"{number:,.0f}".replace("-", MINUS)


def percent(fraction: float) -> str:
    """`73 %`."""
    return f"{fraction * 100:.0f}{NARROW_SPACE}%".replace("-", MINUS)


def said(value: Any) -> str:
    """A setting as its file would write it: `true`, `all-linear`, `q_proj, v_proj`, `model_dtype float32`."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {said(item)}" for key, item in value.items())
    return ", ".join(map(said, value)) if isinstance(value, list | tuple) else str(value)


def length_class(text: str) -> str:
    """Name the class that lets a name of this many characters be read whole on a phone; static/js/names.js, too."""
    return next((name for most, name in ((24, ""), (31, "long"), (40, "longer")) if len(text) <= most), "longest")


def kept_by(query: str, address: str) -> str:
    """What the page at `address` reads of a plan's query string; a link carries nothing else."""
    if address not in KEEPING:
        return ""
    names = KEEPING[address]
    return "&".join(pair for pair in query.split("&") if not names or pair.partition("=")[0] in names)


class _Unindented(Extension):
    """Templates are written with indentation that no browser needs: a twentieth of what a page sends."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Leave one blank of it, which parts words where a tag before it took its line's end along.

        Markdown, whose indentation speaks, keeps all.
        """
        del filename
        return source if (name or "").endswith(".md") else _INDENTATION.sub(" ", source)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(house_folder("templates")),
        # Markdown is a file of its own, no part of a page: entities would stand in it as they are.
        autoescape=select_autoescape(disabled_extensions=("md",), default=True),
        undefined=StrictUndefined,
        extensions=[_Unindented],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "gib": gib, "size": size, "gb": gb, "count": count, "thousands": thousands, "percent": percent,
        "said": said, "decimals": decimals,
        "length_class": length_class,
        "kept_by": kept_by,
        "urlquote": lambda text: quote(str(text), safe="/,:"),
    }  # fmt: skip
    environment.globals |= {"meanings": MEANINGS, "static_url": static_url, "keeping": KEEPING}
    environment.globals |= {
        "optimizers": [(name, name) for name in NAMES],
        "peft_types": [(name, method.label) for name, method in METHODS.items()],
        "rank_labels": {name: f"{method.label} rank" for name, method in METHODS.items() if method.has_rank},
    }
    return environment


_ENVIRONMENT = _environment()


def offer(name: str, function: Callable[[], Markup]) -> None:
    """Make `function` known to every template under `name`."""
    _ENVIRONMENT.globals[name] = function


def render(template: str, **context: Any) -> Markup:
    """One template as markup."""
    return Markup(_ENVIRONMENT.get_template(template).render(**context))  # noqa: S704 (autoescaped by Jinja)


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page of the site. `path` and `query` let the navigation keep the plan at hand."""
    body = render(template, path=request.url.path, **({"query": ""} | context))
    return HTMLResponse(_encoded(body), status_code=status, headers={"Vary": "X-Fragment"})


def _encoded(body: Markup) -> bytes:
    """As it travels. A lone surrogate of a caller's text, which UTF-8 has no bytes for, becomes a question mark."""
    return body.encode("utf-8", "replace")


def fragment(template: str, status: int, **context: Any) -> HTMLResponse:
    """The answer alone, for our own script; the page includes the same partial."""
    return HTMLResponse(_encoded(render(template, **context)), status, {"X-Fragment": "answer", "Vary": "X-Fragment"})


def wants_fragment(request: Request) -> bool:
    """Whether our own script asks for the answer alone; the page includes the same partial."""
    return request.headers.get("x-fragment") == "answer"
