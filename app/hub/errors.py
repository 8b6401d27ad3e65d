"""Why a config.json did not come from the hub, or a file from its address. Each says what can be done instead.

    HubError (FitproofError)
    ├── ModelNotOnHubError     no such repository, revision or file                                  404
    ├── GatedModelError        the hub wants a token, or a licence accepted                          403
    ├── HubUnreachableError    offline by choice, no network, no such host, refused                  424
    ├── HubTimeoutError        the answer took too long                                              424
    ├── HubTroubleError        the hub answered with an error of its own, or a redirect astray       424
    ├── MalformedConfigError   the answer is no JSON object                                          422
    └── ConfigTooLargeError    the answer is larger than any config                                  422

    RemoteFileError (FitproofError)
    ├── RefusedAddressError    no address of a file, not on a host that is asked, too large          422
    ├── MissingFileError       no such file, or it is private                                        404
    └── RemoteFileTroubleError offline by choice, no network, too slow, an error of the host's       424

424 (Failed Dependency, RFC 4918) and not 5xx: this server works, the caller can choose another way.
"""

from app.hub.names import RepoName
from planner.errors import FieldProblem, FitproofError

_OTHERWISE = "or paste the model's config.json as the value of model"


class HubError(FitproofError):
    """Base: names the field and the way out."""

    code = "hub_error"

    def __init__(self, title: str, fix: str) -> None:
        super().__init__(title, [FieldProblem("model", f"{fix}, {_OTHERWISE}")])


class ModelNotOnHubError(HubError):
    """Neither the catalogue nor the hub knows the name."""

    status = 404
    code = "unknown_model"


class GatedModelError(HubError):
    """The hub keeps the repository behind a licence or a login."""

    status = 403
    code = "gated_model"

    def __init__(self, repo: RepoName, endpoint: str, *, token_sent: bool) -> None:
        fix = f"accept its licence at {endpoint}/{repo.id}" + (
            " with the account of this server's HF_TOKEN" if token_sent else " and set HF_TOKEN on this server"
        )
        super().__init__(f"{repo} is gated or private on the hub.", fix)


class HubUnreachableError(HubError):
    """There is no way to the hub."""

    status = 424
    code = "hub_unreachable"


class HubTimeoutError(HubError):
    """The hub did not answer in time."""

    status = 424
    code = "hub_timeout"


class HubTroubleError(HubError):
    """The hub answered, but not with a file."""

    status = 424
    code = "hub_trouble"


class MalformedConfigError(HubError):
    """What the repository calls config.json is not one."""

    status = 422
    code = "malformed_config"


class ConfigTooLargeError(HubError):
    """What the repository calls config.json is too large to be one."""

    status = 422
    code = "config_too_large"


class RemoteFileError(FitproofError):
    """Base: what is wrong with the address, as the end of a sentence about it."""

    code = "remote_file"

    def __init__(self, what: str) -> None:
        super().__init__(f"The address {what}.", [FieldProblem("url", what)])


class RefusedAddressError(RemoteFileError):
    """The address is not one of a file that is fetched."""

    status = 422
    code = "address_refused"


class MissingFileError(RemoteFileError):
    """There is no such file for everybody."""

    status = 404
    code = "file_missing"


class RemoteFileTroubleError(RemoteFileError):
    """The file may be there; it did not come."""

    status = 424
    code = "file_trouble"
