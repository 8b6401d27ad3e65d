"""What an operator may set about probes: the queue, this machine's share, and the cluster beside it."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from planner.units import MIB


class ProbeSettings(BaseSettings):
    """The part of `Settings` that the probe service reads. Each field's description is its row in the README."""

    queue_limit: Annotated[int, Field(ge=1)] = Field(100, description="Most probes that wait at a time.")
    queue_limit_each: Annotated[int, Field(ge=1)] = Field(
        20, description="Most probes of one token that wait or run at a time; the server's owner has no such limit."
    )
    # A dry run's row and its events take some 8 kB (measured), so that ten thousand of them stay under 100 MB.
    probes_kept: Annotated[int, Field(ge=0)] = Field(
        10_000, description="Finished probes kept beside those of the last day; their measurements stay as evidence."
    )
    probe_deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        900, description="Time one attempt of a probe may take."
    )
    probe_memory_bytes: Annotated[int, Field(ge=MIB)] | None = Field(
        None, description="Host memory a dry run or CPU probe may take; unset means half of the machine's."
    )
    cpu_slots: Annotated[int, Field(ge=0, le=1024)] = Field(
        1, description="Dry runs and CPU probes that run at a time on this machine."
    )
    cpu_params: Annotated[int, Field(ge=0)] = Field(
        1_000_000_000, description="Parameters of the largest model that is probed on a processor."
    )
    weights_allowed: str = Field(
        "", description="Hub ids and absolute folders whose real weights may be probed, separated by commas."
    )
    local_access: bool = Field(
        False,
        description="Whoever reaches this machine's loopback address needs no token. Never with a proxy in front.",
    )
    requests_per_minute: Annotated[int, Field(ge=1)] = Field(1200, description="Requests a client may send.")
    ray_url: str | None = Field(None, description="Dashboard of an existing Ray cluster: http://head:8265.")
    ray_token: SecretStr | None = Field(None, description="The cluster's token. Sent to the cluster only.")
    ray_python: str = Field("python3", description="Interpreter with the probe extra on the cluster's nodes.")
    ray_cpu_slots: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="Dry runs and CPU probes that run at a time on the cluster."
    )

    @field_validator("ray_url")
    @classmethod
    def _cluster_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            msg = "must start with https:// or http://"
            raise ValueError(msg)
        return value

    @property
    def allowed_weights(self) -> frozenset[str]:
        """`weights_allowed`, taken apart."""
        return frozenset(name.strip() for name in self.weights_allowed.split(",") if name.strip())
