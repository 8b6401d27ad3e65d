"""A hub on loopback that serves the files of one folder, whole or by ranges, and counts what it sent."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = "someone/some-model"
COMMIT = "0123456789012345678901234567890123456789"


@dataclass
class Hub:
    """Its address, and the bytes that it has sent of each file."""

    address: str = ""
    sent_bytes: dict[str, int] = field(default_factory=dict)


@contextmanager
def hub_of(folder: Path) -> Iterator[Hub]:
    """Serve `folder` as the one repository of a hub."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = self.path.split("?")[0].removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
            if not (folder / name).is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = (folder / name).read_bytes()
            asked = self.headers.get("Range")
            first, _, last = (asked or f"bytes=0-{len(content)}").removeprefix("bytes=").partition("-")
            piece = content[int(first) : int(last) + 1]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(piece)))
            self.send_header("ETag", '"' + hashlib.sha256(name.encode()).hexdigest() + '"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(piece)
                hub.sent_bytes[name] = hub.sent_bytes.get(name, 0) + len(piece)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
