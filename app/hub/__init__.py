"""Reading a model's config.json from the hub. Configs only: no weights, and never any code."""

from app.hub.cache import ConfigCache
from app.hub.client import Hub
from app.hub.errors import HubError
from app.hub.names import RepoName

__all__ = ["ConfigCache", "Hub", "HubError", "RepoName"]
