"""The environment a probe is started with: what torch and the hub need, and none of the server's secrets."""

import os
from collections.abc import Mapping

_KEPT = frozenset(
    {
        "PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "TEMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
        "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "no_proxy",
    }
)  # fmt: skip
_KEPT_PREFIXES = ("LC_", "XDG_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "PYTORCH_", "TORCH_", "HF_", "PYTHON")
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")
_HUB_TOKEN = "HF_TOKEN"  # noqa: S105 (the name of a variable, not its value)


def probe_environment(needs_hub: bool, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Copy what a child process may see. The hub's token goes along only where real weights come from the hub."""
    source = os.environ if environment is None else environment
    kept = {
        name: value
        for name, value in source.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES)) and not any(word in name for word in _SECRET_WORDS)
    }
    if needs_hub and _HUB_TOKEN in source:
        kept[_HUB_TOKEN] = source[_HUB_TOKEN]
    if not needs_hub:
        # Else huggingface_hub would read the token that a login left in the home folder.
        kept |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return kept
