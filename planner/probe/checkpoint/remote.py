"""A hub repository's checkpoint without its bytes: config.json, and the headers of its safetensors files.

huggingface_hub fetches headers by HTTP range requests and knows the person's token; HF_ENDPOINT names another hub. What
bitsandbytes wrote about each 4-bit weight (a JSON object in a tensor of some hundred bytes) is fetched, too: its loader
reads shapes and block sizes from it.
"""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, NotASafetensorsRepoError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented; it exports by plain imports
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.checkpoint.header import StoredTensor

# bitsandbytes/functional.py, QuantState.as_dict(packed=True).
_WRITTEN_OUT = ".quant_state.bitsandbytes__"
_TIMEOUT_SECONDS = 30
_CONNECTIONS = 8

Files = Mapping[str, Sequence[StoredTensor]]


def config_on_hub(repository: str) -> dict[str, Any]:
    """The repository's config.json, with its name in it.

    Raises:
        InvalidRequestError: the hub does not answer, or has no such file for this person.
    """
    with _named_failures(repository):
        url = _url(repository, "config.json")
        answer = get_session().get(url, headers=build_hf_headers(), timeout=_TIMEOUT_SECONDS)
        hf_raise_for_status(answer)
        return {**answer.json(), "_name_or_path": repository}


def files_on_hub(repository: str) -> Files:
    """The repository's safetensors files: name to the tensors in it, in the order of their data.

    Raises:
        InvalidRequestError: the hub does not answer, or has no safetensors files there.
    """
    with _named_failures(repository):
        found = HfApi(endpoint=_endpoint()).get_safetensors_metadata(repository, timeout=_TIMEOUT_SECONDS)
        return {
            name: _with_content(
                _url(repository, name),
                [
                    (StoredTensor(tensor, str(info.dtype), tuple(info.shape)), info.data_offsets)
                    for tensor, info in sorted(file.tensors.items(), key=lambda item: item[1].data_offsets)
                ],
            )
            for name, file in sorted(found.files_metadata.items())
        }


def _with_content(url: str, tensors: Sequence[tuple[StoredTensor, tuple[int, int]]]) -> list[StoredTensor]:
    """Tensors with their offsets, as stored; with their content where the loader reads it."""
    wanted = [(tensor.name, offsets) for tensor, offsets in tensors if _WRITTEN_OUT in tensor.name]
    if not wanted:
        return [tensor for tensor, _ in tensors]
    (length,) = struct.unpack("<Q", _fetched(url, 0, 8))
    start = 8 + length
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        contents = pool.map(lambda item: _fetched(url, start + item[1][0], start + item[1][1]), wanted)
        content_of = dict(zip((name for name, _ in wanted), contents, strict=True))
    return [replace(tensor, content=content_of.get(tensor.name)) for tensor, _ in tensors]


def _fetched(url: str, start: int, end: int) -> bytes:
    """Bytes `start` to `end` of the file at `url`."""
    headers = build_hf_headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    answer = get_session().get(url, headers=headers, timeout=_TIMEOUT_SECONDS)
    hf_raise_for_status(answer)
    if len(answer.content) != end - start:
        msg = f"{url} sent {len(answer.content)} bytes where {end - start} were asked for"
        raise ValueError(msg)
    return bytes(answer.content)


def _url(repository: str, name: str) -> str:
    return hf_hub_url(repository, name, endpoint=_endpoint())


def _endpoint() -> str | None:
    """Read at each call: a warm program was started with another environment than its runs have."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _named_failures(repository: str) -> Iterator[None]:
    try:
        yield
    except NotASafetensorsRepoError:
        raise _refused(f"{repository} has no safetensors files on the hub; leave it out") from None
    except EntryNotFoundError:
        raise _refused(f"{repository} has no config.json on the hub; leave it out") from None
    except OfflineModeIsEnabled:
        raise _refused("HF_HUB_OFFLINE is set, and headers come from the hub; unset it, or leave it out") from None
    except Exception as error:  # the boundary: whatever the hub's client meets is one sentence
        reason = " ".join(str(error).split())[:300]
        raise _refused(f"the headers of {repository} cannot be fetched: {reason}; leave it out") from None


def _refused(problem: str) -> InvalidRequestError:
    return InvalidRequestError("The checkpoint's headers cannot be had.", [FieldProblem("--weights", problem)])
