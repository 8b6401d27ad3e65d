"""A hub on loopback: a model of 2 GiB that exists as a header and a hole, and other repositories' files as given."""

import hashlib
import http.server
import json
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

REPOSITORY = "someone/some-model"
COMMIT = "0123456789012345678901234567890123456789"
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 131072,
}  # fmt: skip


def shapes(config: Mapping[str, Any] = CONFIG) -> dict[str, list[int]]:
    """The tensors of a Llama's checkpoint."""
    width, middle, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    found = {
        "model.embed_tokens.weight": [words, width],
        "lm_head.weight": [words, width],
        "model.norm.weight": [width],
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}self_attn.{name}_proj.weight": [width, width] for name in "qkvo"}
        found |= {f"{prefix}mlp.{name}_proj.weight": [middle, width] for name in ("gate", "up")}
        found |= {f"{prefix}mlp.down_proj.weight": [width, middle]}
        found |= {f"{prefix}{name}_layernorm.weight": [width] for name in ("input", "post_attention")}
    return found


def safetensors_head() -> tuple[bytes, int]:
    """The file's first bytes, and the size of the whole."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes().items():
        size = 2
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text, 8 + len(text) + end


class _Hub(http.server.BaseHTTPRequestHandler):
    sent_bytes = 0
    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        repository, _, rest = self.path.split("?")[0].removeprefix("/").partition("/resolve/")
        found = self.file(repository, rest.partition("/")[2])
        if found is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        head, size = found
        asked = self.headers.get("Range")
        start, stop = (int(part) for part in asked.removeprefix("bytes=").split("-")) if asked else (0, len(head) - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start + 1 if asked else size))
        self.send_header("Content-Range", f"bytes {start}-{stop}/{size}")
        self.send_header("X-Linked-Size", str(size))
        self.send_header("ETag", '"' + hashlib.sha256(self.path.encode()).hexdigest() + '"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            type(self).sent_bytes += self.wfile.write(head[start : stop + 1])

    def file(self, repository: str, name: str) -> tuple[bytes, int] | None:
        """A file's first bytes, and the size of the whole."""
        if repository == REPOSITORY:
            config = json.dumps(CONFIG).encode()
            return {"config.json": (config, len(config)), "model.safetensors": safetensors_head()}.get(name)
        content = self.files.get(f"{repository}/{name}")
        return None if content is None else (content, len(content))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def small_hub(files: dict[str, bytes] | None = None) -> Iterator[tuple[str, type[_Hub]]]:
    """Its address, and the class that counts what it sent. `files`: contents by "owner/name/file"."""
    _Hub.files, _Hub.sent_bytes = files or {}, 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", _Hub
    finally:
        server.shutdown()
        server.server_close()
