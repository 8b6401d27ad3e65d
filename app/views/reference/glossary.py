"""Every word of the pages in one place."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.glossary import GROUPS
from app.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/glossary")
async def glossary(request: Request) -> HTMLResponse:
    """What the words mean."""
    return page(request, "pages/glossary.html", groups=GROUPS)
