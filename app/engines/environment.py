"""The environment a probe is started with: what torch and the hub need, and none of the server's secrets."""

import os
from collections.abc import Mapping

_KEPT = frozenset(
    {
        "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "SYSTEMROOT", "LD_LIBRARY_PATH",
        "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "XDG_CACHE_HOME", "CUDA_HOME", "CUDA_PATH", "CUDA_DEVICE_ORDER",
        "CUDA_MODULE_LOADING", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OMP_NUM_THREADS",
        "MKL_NUM_THREADS", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_HOME", "TRITON_CACHE_DIR",
        "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY",
    }
)  # fmt: skip
# The way to the hub: a proxy's address and the hub's may carry a password.
_FOR_THE_HUB = frozenset(
    {
        "HF_TOKEN", "HF_ENDPOINT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "no_proxy",
    }
)  # fmt: skip


def probe_environment(needs_hub: bool, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Copy what a child process may see: these variables and no others. The hub's go along only where it is asked."""
    source = os.environ if environment is None else environment
    names = _KEPT | _FOR_THE_HUB if needs_hub else _KEPT
    kept = {name: value for name, value in source.items() if name in names}
    if not needs_hub:
        # Else huggingface_hub would read the token that a login left in the home folder.
        kept |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return kept
