"""Files of weights whose data is a hole: what a loader reads of them is there, and reads as zero where it is not."""

import concurrent.futures
import json
import os
import struct
import zipfile

from fitproof_bootstrap import remote

# The safetensors library refuses longer headers (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MOST_HEADER_BYTES = 100_000_000
# bitsandbytes/functional.py, QuantState.as_dict(packed=True): a JSON object that its loader reads shapes from.
_WRITTEN_OUT = ".quant_state.bitsandbytes__"
_CONNECTIONS = 8
# torch aligns tensors so, by an extra field of this id (caffe2/serialize/inline_container.cc).
_ALIGNMENT = 64
_PADDING_ID = 0x4246


def safetensors(url, headers, path):
    """Write the safetensors file at `url` to `path`: its header, and what bitsandbytes wrote of its weights.

    Raises:
        OSError: the hub does not answer, or the file is none.
    """
    (length,) = struct.unpack("<Q", remote.fetch(url, headers, 0, 8))
    if length > MOST_HEADER_BYTES:
        raise OSError(f"{url} is no safetensors file: its header would have {length} bytes")
    header = remote.fetch(url, headers, 8, length)
    tensors = {name: entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"}
    told = [offsets for name, offsets in tensors.items() if _WRITTEN_OUT in name]

    def content(offsets):
        return remote.fetch(url, headers, 8 + length + offsets[0], offsets[1] - offsets[0])

    with open(path, "wb") as file, concurrent.futures.ThreadPoolExecutor(_CONNECTIONS) as pool:
        file.write(struct.pack("<Q", length) + header)
        file.truncate(8 + length + max((end for _, end in tensors.values()), default=0))
        for number, data in enumerate(pool.map(content, told)):
            file.seek(8 + length + told[number][0])
            file.write(data)


def pickled(url, headers, path):
    """Write the torch file at `url` to `path`: its pickle, which names the tensors, with holes for their storages.

    Raises:
        OSError: the hub does not answer, or torch wrote it before 1.6 (torch.save: a zip file since then).
    """
    try:
        source = zipfile.ZipFile(remote.RemoteFile(url, headers))
    except zipfile.BadZipFile:
        raise OSError(
            f"{os.path.basename(path)} was written by a torch before 1.6, whose weights cannot come without their "
            "bytes: use a repository with safetensors, or download it and give its folder"
        ) from None
    with source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            if "/data/" in entry.filename and entry.compress_type == zipfile.ZIP_STORED:
                _add_hole(target, entry.filename, entry.file_size)
            else:
                target.writestr(entry.filename, source.read(entry))


def _add_hole(target, name, size):
    """A stored entry of zeros that takes no room on disk; torch reads no checksums."""
    entry = zipfile.ZipInfo(name)
    entry.file_size = entry.compress_size = size
    entry.CRC, entry.header_offset = 0, target.start_dir
    # Aligned by an extra field of some 64 bytes; the header is written twice to learn how long it is.
    entry.extra = struct.pack("<HH", _PADDING_ID, 0)
    behind = (entry.header_offset + len(entry.FileHeader())) % _ALIGNMENT
    padding = _ALIGNMENT - behind
    entry.extra = struct.pack("<HH", _PADDING_ID, padding) + b"Z" * padding
    target.fp.seek(target.start_dir)
    target.fp.write(entry.FileHeader())
    target.start_dir = target.fp.seek(size, os.SEEK_CUR)
    target.filelist.append(entry)
    target.NameToInfo[name] = entry


def empty(url, headers, path):
    """Write a hole as large as the file at `url`: of a format that nothing here can read a header of.

    Raises:
        OSError: the hub does not answer.
    """
    with open(path, "wb") as file:
        file.truncate(remote.size_of(url, headers))
