"""Weights of hub models without their bytes: of a safetensors file only the header is fetched, the rest is a hole.

Every other file (config, tokenizer) is fetched as huggingface_hub does. The cache is the run's own (see
planner/probe/command/hub_cache.py), so that no hollow file stays behind.
"""

import inspect
import json
import os
import struct
import sys
import urllib.parse
import urllib.request

# The safetensors library refuses longer headers (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MOST_HEADER_BYTES = 100_000_000
TIMEOUT_SECONDS = 60


def make_hollow(file_download):
    """Let huggingface_hub's one place of downloads fetch headers only."""
    original = file_download._download_to_tmp_and_move
    signature = inspect.signature(original)

    def download(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        if not given["filename"].endswith(".safetensors"):
            original(*args, **kwargs)
        elif not os.path.exists(given["destination_path"]):
            write_hollow(given["url_to_download"], given["headers"], str(given["destination_path"]))

    file_download._download_to_tmp_and_move = download


def write_hollow(url, headers, path):
    """Fetch the header of the safetensors file at `url` and write it to `path` with a hole for its data."""
    (length,) = struct.unpack("<Q", _fetch(url, headers, 0, 8))
    if length > MOST_HEADER_BYTES:
        raise OSError(f"{url} is no safetensors file: its header would have {length} bytes")
    header = _fetch(url, headers, 8, length)
    ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", length) + header)
        file.truncate(8 + length + max(ends, default=0))
    os.replace(path + ".part", path)
    sys.stderr.write(f"fitproof: {os.path.basename(urllib.parse.urlsplit(url).path)} is hollow: header only\n")


def _fetch(url, headers, start, count):
    """`count` bytes from `start` on."""
    wanted = {**headers, "Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"}
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(urllib.request.Request(url, headers=wanted), timeout=TIMEOUT_SECONDS) as answer:
        if answer.status == 200:  # a server that knows no ranges sends the file from its start
            answer.read(start)
        data = answer.read(count)
    if len(data) != count:
        raise OSError(f"{url} ended after {len(data)} of {count} bytes")
    return data


class _Redirects(urllib.request.HTTPRedirectHandler):
    """The hub's token is for the hub, not for where it sends us."""

    def redirect_request(self, request, file, code, message, headers, url):
        """Follow, without the token where the host changes."""
        followed = super().redirect_request(request, file, code, message, headers, url)
        if followed is not None and urllib.parse.urlsplit(url).netloc != urllib.parse.urlsplit(request.full_url).netloc:
            followed.remove_header("Authorization")
        return followed
