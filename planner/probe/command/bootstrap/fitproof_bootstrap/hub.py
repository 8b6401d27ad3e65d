"""Weights of hub models without their bytes: what names their tensors is fetched, the rest is a hole.

Every other file (config, tokenizer, adapter, data set) is fetched as huggingface_hub does. The cache is the run's own
(see planner/probe/command/hub_cache.py), so that no hollow file stays behind.
"""

import inspect
import os
import subprocess
import sys

from fitproof_bootstrap import hollow, refusal

_WRITERS = {
    ".safetensors": hollow.safetensors,
    ".bin": hollow.pickled,
    ".pt": hollow.pickled,
    ".pth": hollow.pickled,
    ".gguf": hollow.empty,
    ".h5": hollow.empty,
    ".msgpack": hollow.empty,
    ".onnx": hollow.empty,
}
# What programs call their own small files in these formats: transformers' Trainer, PEFT.
_AS_THEY_ARE = ("training_args.bin", "adapter_", "optimizer.", "scheduler.", "rng_state")
_MARK = "fitproof: "


def make_hollow(file_download, run):
    """Let huggingface_hub's one place of downloads fetch of weights what names their tensors.

    Releases before 0.23 (May 2024) download in more places than one, and are refused.
    """
    if not hasattr(file_download, "_download_to_tmp_and_move"):
        release = sys.modules["huggingface_hub"].__version__
        refusal.refuse(
            run,
            f"huggingface_hub {release} is installed here, and the dry run fetches hub models through 0.23 or newer: "
            "install that for this run (`pip install -U huggingface_hub`).",
        )
    original = file_download._download_to_tmp_and_move
    signature = inspect.signature(original)

    def download(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        name = os.path.basename(given["filename"])
        write = None if name.startswith(_AS_THEY_ARE) else _WRITERS.get(os.path.splitext(name)[1])
        path = str(given["destination_path"])
        if write is None:
            original(*args, **kwargs)
        elif not os.path.exists(path):
            write(given["url_to_download"], given["headers"], path + ".part")
            os.replace(path + ".part", path)
            told = "nothing of it can be loaded" if write is hollow.empty else "its tensors have no bytes"
            sys.stderr.write(f"{_MARK}{name} is hollow: {told}\n")

    file_download._download_to_tmp_and_move = download


def make_up_what_is_missing(file_download, run):
    """Offline: a model that neither cache nor hub can give comes from Fitproof's catalogue.

    Every way into the cache asks for the repository's folder by this function first.
    """
    original = file_download.repo_folder_name
    tried = set()

    def repo_folder_name(*, repo_id, repo_type):
        folder = original(repo_id=repo_id, repo_type=repo_type)
        missing = not os.path.isdir(os.path.join(run["hub_cache"], folder, "snapshots"))
        if repo_type in (None, "model") and missing and repo_id not in tried:
            tried.add(repo_id)
            _make_up(repo_id, os.path.join(run["hub_cache"], folder), run)
        return folder

    file_download.repo_folder_name = repo_folder_name


def _make_up(repo_id, folder, run):
    done = subprocess.run(
        [*run["model_builder"], repo_id, folder],
        capture_output=True,
        text=True,
        env=refusal.fitproofs_environment(run),
        check=False,
    )
    said = done.stderr.strip().splitlines()
    told = "comes from the catalogue, hollow" if done.returncode == 0 else (said[-1] if said else "is not known")
    sys.stderr.write(f"{_MARK}{repo_id} {told}\n")
