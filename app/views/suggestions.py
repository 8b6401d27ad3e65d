"""The catalogues as suggestions for the form's two names. Rendered once: they do not change while the server runs."""

from functools import lru_cache

from markupsafe import Markup

from app.templating import count, offer, render
from planner.catalog.gpu_rows import gpu_catalog
from planner.catalog.model_rows import model_catalog


@lru_cache(maxsize=1)
def suggestions() -> Markup:
    """Two datalists: the browser's own type-ahead, and the source of ours."""
    models = [(row.id, f"{count(row.params)} · {row.model_type}") for row in model_catalog().search("")]
    cards = [card.row for card in gpu_catalog().cards.values() if card.gpu]
    gpus = [(row.id, f"{row.name} · {row.nominal_gb} GB" if row.nominal_gb else row.name) for row in cards]
    return render("partials/suggestions.html", models=models, gpus=gpus)


offer("suggestions", suggestions)
