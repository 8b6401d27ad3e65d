"""A small real HTTP server that answers like the hub, and keeps what it was asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "intermediate_size": 1376,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32000,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


@dataclass
class Asked:
    path: str
    headers: dict[str, str]


@dataclass
class FakeHub:
    """`answers` maps a path to (status, headers, body); `elsewhere` is another origin to redirect to."""

    endpoint: str
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    slow_paths: set[str] = field(default_factory=set)
    endless_paths: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)

    def publish(self, repo: str, config: object = None, *, revision: str = "main", etag: str = '"v1"') -> str:
        path = f"/{repo}/resolve/{revision}/config.json"
        self.say(path, 200, json.dumps(CONFIG if config is None else config).encode(), etag=etag)
        return path

    def say(self, path: str, status: int, body: bytes = b"", **headers: str) -> None:
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append(Asked(self.path, headers))
        if self.path in self.hub.slow_paths:
            self._drip(0.05)
            return
        if self.path in self.hub.endless_paths:
            self._drip(0.0)
            return
        missing: tuple[int, dict[str, str], bytes] = (404, {"x-error-code": "RepoNotFound"}, b"not found")
        status, extra, body = self.hub.answers.get(self.path, missing)
        if status == 200 and extra.get("etag") and headers.get("if-none-match") == extra["etag"]:
            status, body = 304, b""
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, seconds: float) -> None:
        """A body that never ends, a little at a time: read timeouts alone do not catch it."""
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        piece = b" " if seconds else b" " * 65536
        try:
            for _ in range(2000):
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(seconds)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Say nothing: the base class writes a line per request."""


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve on a free loopback port until the block ends."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}")
    handler.hub = hub  # type: ignore[attr-defined]  # the class above, made anew for each server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
