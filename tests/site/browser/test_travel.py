"""What travels to show a page: little, compressed as the browser can, and only once."""

import gzip

import brotli
import httpx
import pytest
from playwright.sync_api import Page

from tests.site.first_view import decoded, first_view_bytes

MOST_BYTES = 20_000
# What the browser itself counts of the page and of what it fetched with it.
FETCHED = """() => Object.fromEntries(
  [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .map((entry) => [new URL(entry.name).pathname, entry.encodedBodySize]))"""


def travelling(site: httpx.Client, path: str) -> tuple[bytes, bytes]:
    with site.stream("GET", path, headers={"accept-encoding": "br"}) as answer:
        body = b"".join(answer.iter_raw())
    return body, decoded(body, answer.headers.get("content-encoding"))


def test_all_that_the_first_view_fetches_travels_in_20_kilobytes(site: httpx.Client) -> None:
    view = first_view_bytes(lambda path: travelling(site, path))
    assert len(view) > 3
    assert sum(view.values()) <= MOST_BYTES


def test_a_browser_fetches_nothing_else_at_its_first_view(site: httpx.Client, page: Page) -> None:
    page.goto("/", wait_until="networkidle")
    counted = {path.partition("?")[0]: size for path, size in first_view_bytes(lambda p: travelling(site, p)).items()}
    assert page.evaluate(FETCHED) == counted


@pytest.mark.parametrize("path", ["/", "/glossary", "/static/js/main.js", "/static/css/site.css"])
def test_each_client_is_sent_what_it_can_read(site: httpx.Client, path: str) -> None:
    said = site.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in said.headers
    for asked, coding, read in (
        ("gzip, deflate, br", "br", brotli.decompress),
        ("gzip", "gzip", gzip.decompress),
        ("br;q=0, gzip", "gzip", gzip.decompress),
    ):
        with site.stream("GET", path, headers={"accept-encoding": asked}) as answer:
            body = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == coding
        assert "accept-encoding" in answer.headers["vary"].lower()
        assert int(answer.headers["content-length"]) == len(body)
        assert read(body) == said.content


def test_a_file_is_kept_for_ever_under_its_digest_and_asked_for_again_without_it(site: httpx.Client) -> None:
    address = next(path for path in first_view_bytes(lambda p: travelling(site, p)) if path.startswith("/static/js/"))
    named = site.get(address)
    assert "immutable" in named.headers["cache-control"]
    bare = site.get(address.partition("?")[0])
    assert bare.headers["cache-control"] == "no-cache"
    again = site.get(address.partition("?")[0], headers={"if-none-match": bare.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert site.get("/static/js/none.js").status_code == 404
