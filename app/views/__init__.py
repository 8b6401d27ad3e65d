"""The site's pages. A view reads, calls and renders.

Workers (app/compute) answer those of `computed`; `prove` needs the database, which no worker loads.
"""

from fastapi import APIRouter

from app.views import accuracy, catalog, compare, guide, heatmap, imports, plan, recommend, suggestions
from app.views.errors import error_page
from app.views.reference import docs, glossary
from app.views.serving import inference

COMPUTED_PARTS = (
    plan, heatmap, compare, guide, catalog, recommend, inference, imports, accuracy, suggestions, docs, glossary,
)  # fmt: skip

computed = APIRouter(include_in_schema=False)
for part in COMPUTED_PARTS:
    computed.include_router(part.router)

__all__ = ["COMPUTED_PARTS", "computed", "error_page"]
