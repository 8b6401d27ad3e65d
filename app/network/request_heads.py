"""uvicorn's connection on httptools, which by itself keeps whatever a client sends; h11 has these limits of its own."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# What may come of a head, of chunk sizes or of trailers before anything else does: h11's limit for an event.
MOST_HEAD_BYTES = 64 * 1024
# Requests that wait on one connection for the answer to an earlier one; uvicorn makes some 3 kB of each.
MOST_PIPELINED = 16


class BoundedHeads(HttpToolsProtocol):
    """Ends a connection that sends more than a server needs to keep."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Take up another request, unless too many wait already."""
        if len(self.pipeline) >= MOST_PIPELINED:
            self.transport.abort()
            msg = "too many requests are pipelined"
            raise ValueError(msg)  # ends the parser's work on what is left
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Count afresh: the head is whole."""
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count afresh; app/middleware/body.py counts the body."""
        self._head_bytes = 0
        super().on_body(body)
