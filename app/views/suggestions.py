"""What a half-typed name may mean: lists for browsers without our script, best matches for the type-ahead."""

from functools import lru_cache

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from app.templating import count, offer, render
from planner.catalog import Card, ModelRow
from planner.catalog.gpu_rows import gpu_catalog
from planner.catalog.model_rows import model_catalog
from planner.request.parallel_words import counted_cards

router = APIRouter(include_in_schema=False)

SHOWN = 12
# What a press on an empty or finished field opens: all cards, the most used models.
SHOWN_AT_ONCE = 100
# The pages carry these with them: the first page is to stay small.
SHOWN_WITHOUT_A_SCRIPT = 40
_LONGEST_QUERY = 200


@router.get("/suggest/{kind}")
async def suggest(kind: str, q: str = "") -> HTMLResponse:
    """The best matches as the options of a listbox; none for a kind that has no catalogue."""
    html = render("partials/options.html", kind=kind, options=matches(kind, q, SHOWN if q else SHOWN_AT_ONCE))
    return HTMLResponse(html, headers={"Cache-Control": "public, max-age=3600"})


def matches(kind: str, query: str, limit: int) -> list[tuple[str, str]]:
    """Id and description of what `query` means, best first; where no row has all its words, what is spelt alike.

    A hub id is meant as it is written, so nothing is guessed for one that the catalogue lacks.
    """
    query = query[:_LONGEST_QUERY]
    guess = "/" not in query
    count = _count(query) if kind == "gpus" else 0
    if count:
        return [(f"{count}x{card}", f"{count} × {words}") for card, words in matches(kind, _uncounted(query), limit)]
    if kind == "models":
        rows = model_catalog().search(query) or (model_catalog().alike(query) if guess else [])
        return [_model(row) for row in rows[:limit]]
    if kind == "gpus":
        cards = gpu_catalog().search(query) or (gpu_catalog().alike(query) if guess else [])
        return [_card(card) for card in cards if card.gpu][:limit]
    return []


def _count(query: str) -> int:
    """How many cards `2x3090` asks for; 0 where it does not say."""
    try:
        counted = counted_cards(query)
    except ValueError:
        return 0
    return counted[0] if counted else 0


def _uncounted(query: str) -> str:
    counted = counted_cards(query)
    return counted[1] if counted else query


@lru_cache(maxsize=1)
def suggestions() -> Markup:
    """Two datalists: the browser's own type-ahead. Rendered once: they do not change while the server runs."""
    models = [row.id for row in model_catalog().search("")[:SHOWN_WITHOUT_A_SCRIPT]]
    gpus = [card.row.id for card in gpu_catalog().cards.values() if card.gpu]
    return render("partials/suggestions.html", models=models, gpus=gpus)


def _model(row: ModelRow) -> tuple[str, str]:
    return row.id, f"{count(row.params)} · {row.model_type}"


def _card(card: Card) -> tuple[str, str]:
    row = card.row
    return row.id, f"{row.name} · {row.nominal_gb} GB" if row.nominal_gb else row.name


offer("suggestions", suggestions)
