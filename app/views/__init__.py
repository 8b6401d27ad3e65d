"""The site's pages. A view reads, calls and renders."""

from fastapi import APIRouter

from app.views import accuracy, catalog, compare, guide, heatmap, imports, plan, prove, suggestions
from app.views.errors import error_page

router = APIRouter(include_in_schema=False)
for part in (plan, heatmap, compare, guide, catalog, imports, prove, accuracy, suggestions):
    router.include_router(part.router)

__all__ = ["error_page", "router"]
