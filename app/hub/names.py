"""Names of repositories on the hub: `owner/name`, optionally `@revision`."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

# huggingface_hub/utils/_validators.py, validate_repo_id: at most 96 characters of [A-Za-z0-9-_.] in each part,
# no `--` or `..`, no `-` or `.` at either end.
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# A branch, tag or commit. git-check-ref-format(1) allows more; no models are published under such names.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}")
# A page of a model as a browser shows it: the model itself, a folder or a file of one revision.
_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?!datasets/|spaces/|collections/|papers/)"
    r"(?P<id>[^/?#\s]+/[^/?#\s]+)(?:/(?:tree|blob|resolve|raw|commit)/(?P<revision>[^/?#\s]+))?(?:[/?#]\S*)?"
)


def without_address(text: str) -> str:
    """`owner/name@revision` where `text` is the hub's address of a model's page; any other text as it is."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return text
    revision = match["revision"]
    return match["id"] if revision in (None, "main") else f"{match['id']}@{revision}"


@dataclass(frozen=True, slots=True)
class RepoName:
    """A name that is safe to put into an address and into an error message."""

    id: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `owner/name@revision`; None where the text cannot be the name of a repository."""
        repo_id, at, revision = text.partition("@")
        parts = repo_id.split("/")
        plain = len(parts) <= 2 and all(_PART.fullmatch(part) for part in parts)
        if not plain or "--" in repo_id or ".." in text or (at and not _REVISION.fullmatch(revision)):
            return None
        return cls(repo_id, revision or "main")

    @property
    def config_path(self) -> str:
        """The address of config.json below the hub's endpoint."""
        return f"/{self.id}/resolve/{quote(self.revision, safe='')}/config.json"

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"
