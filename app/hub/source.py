"""Where configs come from, as far as planning cares."""

from typing import Any, Protocol

from app.hub.names import RepoName


class ConfigSource(Protocol):
    """Anything that knows config.json files by repository."""

    async def config(self, repo: RepoName) -> dict[str, Any]:
        """Return the config.json of `repo`.

        Raises:
            HubError: one class per reason (app/hub/errors.py).
        """
        ...
