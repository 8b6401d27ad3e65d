"""Ranges of files on the hub, by HTTP: what a hollow file needs of them."""

import io
import urllib.parse
import urllib.request

TIMEOUT_SECONDS = 60
# Small reads of a zip file's directory come in rows; one request fetches as much.
CHUNK_BYTES = 1 << 16


def fetch(url, headers, start, count):
    """`count` bytes from `start` on.

    Raises:
        OSError: the hub does not answer, or the file ends before.
    """
    wanted = {**headers, "Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"}
    with _open(url, wanted) as answer:
        if answer.status == 200:  # a server that knows no ranges sends the file from its start
            answer.read(start)
        data = answer.read(count)
    if len(data) != count:
        raise OSError(f"{url} ended after {len(data)} of {count} bytes")
    return data


def size_of(url, headers):
    """The file's bytes.

    Raises:
        OSError: the hub does not say.
    """
    with _open(url, {**headers, "Range": "bytes=0-0", "Accept-Encoding": "identity"}) as answer:
        told = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if not told.isdigit():
        raise OSError(f"{url} does not tell its size")
    return int(told)


class RemoteFile(io.RawIOBase):
    """The file at `url`, as far as it is read."""

    def __init__(self, url, headers):
        super().__init__()
        self.url, self.headers = url, headers
        self.size = size_of(url, headers)
        self.position = 0
        self.start, self.chunk = 0, b""

    def readable(self):
        """It is."""
        return True

    def seekable(self):
        """It is."""
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        """Go to a byte."""
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self):
        """The byte that is read next."""
        return self.position

    def readinto(self, buffer):
        """Fill `buffer`, from the chunk at hand if it is in it."""
        count = min(len(buffer), self.size - self.position)
        if not self.start <= self.position <= self.position + count <= self.start + len(self.chunk):
            self.start = self.position
            self.chunk = fetch(self.url, self.headers, self.start, min(max(count, CHUNK_BYTES), self.size - self.start))
        first = self.position - self.start
        buffer[:count] = self.chunk[first : first + count]
        self.position += count
        return count


def _open(url, headers):
    opener = urllib.request.build_opener(_Redirects)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """The hub's token is for the hub, not for where it sends us."""

    def redirect_request(self, request, file, code, message, headers, url):
        """Follow, without the token where the host changes."""
        followed = super().redirect_request(request, file, code, message, headers, url)
        if followed is not None and urllib.parse.urlsplit(url).netloc != urllib.parse.urlsplit(request.full_url).netloc:
            followed.remove_header("Authorization")
        return followed
