"""The site's own files, made small once: scripts joined with what they import, minified, compressed."""

import asyncio
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import brotli
import rcssmin
import rjsmin
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from app.folders import house_folder
from app.middleware.compression import accepts

router = APIRouter(include_in_schema=False)

# The address holds a digest of the content: what it names never changes.
_FOR_EVER = "public, max-age=31536000, immutable"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_MINIFIED = {".css": rcssmin.cssmin, ".js": rjsmin.jsmin}
_TEXTS = (".css", ".js", ".svg")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it travels: plain, and by content coding, the smaller first."""

    content: bytes
    media_type: str
    digest: str
    coded: Mapping[str, bytes]


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
async def show(request: Request, path: str) -> Response:
    """One file of static/, in the smallest coding that the browser reads."""
    if path not in _paths():
        raise HTTPException(HTTPStatus.NOT_FOUND)
    file = await asyncio.to_thread(static_file, path)
    tag = f'W/"{file.digest}"'
    lasting = _FOR_EVER if request.query_params.get("v") == file.digest else "no-cache"
    headers = {"ETag": tag, "Cache-Control": lasting, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    coding = next((name for name in file.coded if accepts(request.headers.get("accept-encoding", ""), name)), None)
    if coding is None:
        return Response(file.content, headers=headers, media_type=file.media_type)
    return Response(file.coded[coding], headers=headers | {"Content-Encoding": coding}, media_type=file.media_type)


@lru_cache
def static_url(path: str) -> str:
    """The address of a static file, with a digest of its content so that it can be cached for ever."""
    return f"/static/{path}?v={_digest(_source(path))}"


@lru_cache
def static_file(path: str) -> StaticFile:
    """Make one file ready to travel. Takes some 30 ms for the largest, once."""
    source, ending = _source(path), path[path.rindex(".") :]
    content = _MINIFIED[ending](source.decode()).encode() if ending in _MINIFIED else source
    coded = {"br": brotli.compress(content, quality=11), "gzip": gzip.compress(content, 9, mtime=0)}
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return StaticFile(content, media_type, _digest(source), coded if ending in _TEXTS else {})


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:10]


def _source(path: str) -> bytes:
    """The file as it stands in the folder; a script with the modules it imports in front of it."""
    if not path.endswith(".js"):
        return (house_folder("static") / path).read_bytes()
    parts: dict[str, str] = {}
    _join(path.rpartition("/")[2], parts)
    return "".join(parts.values()).encode()


def _join(name: str, parts: dict[str, str]) -> None:
    """Put a script behind what it imports. All share one module then, so that top-level names must differ."""
    text = (house_folder("static") / "js" / name).read_text()
    for imported in _IMPORT.findall(text):
        if imported not in parts:
            _join(imported, parts)
    parts[name] = re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)


@lru_cache(maxsize=1)
def _paths() -> frozenset[str]:
    folder = house_folder("static")
    return frozenset(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
