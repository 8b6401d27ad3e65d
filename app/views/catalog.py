"""The catalogues to browse: every model and every card, with where its facts come from."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.forms import query_of_values
from app.templating import page
from app.views.asking import EXAMPLE
from planner.catalog.gpu_rows import gpu_catalog
from planner.catalog.model_rows import model_catalog
from planner.model.model import config_facts

router = APIRouter(include_in_schema=False)

_LONGEST_QUERY = 200


@router.get("/models")
async def models(request: Request, q: str = "") -> HTMLResponse:
    """Models that hold every word of `q`, the most used first."""
    found = model_catalog().search(q[:_LONGEST_QUERY])
    rows = [(row, config_facts(row.config), _plan_of(model=row.id)) for row in found]
    return page(request, "pages/models.html", q=q, rows=rows)


@router.get("/gpus")
async def gpus(request: Request, q: str = "") -> HTMLResponse:
    """Cards that hold every word of `q`."""
    rows = [(card, _plan_of(gpu=card.row.id)) for card in gpu_catalog().search(q[:_LONGEST_QUERY])]
    return page(request, "pages/gpus.html", q=q, rows=rows)


def _plan_of(**part: str) -> str:
    """The example's plan with one part exchanged."""
    return query_of_values(EXAMPLE | part)
