"""Messages over a socket: four bytes of length, then so many bytes."""

import asyncio
import socket
import struct

_LENGTH = struct.Struct(">I")


def framed(message: bytes) -> bytes:
    """`message` as it goes over the stream."""
    return _LENGTH.pack(len(message)) + message


async def exchange(stream: socket.socket, message: bytes | None) -> bytes:
    """Send a message, if there is one, and wait for the next that comes; `stream` does not block.

    Over the socket itself: asyncio's streams belong to one loop for good.

    Raises:
        OSError: the other end is gone.
    """
    loop = asyncio.get_running_loop()
    if message is not None:
        await loop.sock_sendall(stream, framed(message))
    (length,) = _LENGTH.unpack(await _awaited(loop, stream, _LENGTH.size))
    return await _awaited(loop, stream, length)


async def _awaited(loop: asyncio.AbstractEventLoop, stream: socket.socket, length: int) -> bytes:
    body = bytearray()
    while len(body) < length:
        part = await loop.sock_recv(stream, length - len(body))
        if not part:
            raise ConnectionResetError
        body += part
    return bytes(body)


def receive_frame(stream: socket.socket) -> bytes | None:
    """Wait for one message; None once the other end is gone."""
    head = _receive(stream, _LENGTH.size)
    return None if head is None else _receive(stream, _LENGTH.unpack(head)[0])


def _receive(stream: socket.socket, length: int) -> bytes | None:
    body = bytearray()
    while len(body) < length:
        part = stream.recv(min(length - len(body), 1 << 20))
        if not part:
            return None
        body += part
    return bytes(body)
