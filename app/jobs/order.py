"""What a caller asks for: a plan's document plus the instrument, a memory cap and the weights."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from planner.errors import FieldProblem, InvalidRequestError
from planner.measurement import Instrument
from planner.request.schema import Request
from planner.request.validation.messages import field_problems
from planner.units import MIB

SYNTHETIC = "synthetic"
_OWN_KEYS = ("instrument", "memory_limit_bytes", "weights")
_NO_WEIGHTS = (
    "a server's dry run makes a checkpoint without values up from the model's config; leave weights out, take another "
    "instrument, or run `fitproof probe --on dry-run --weights hub|DIR` on a machine of your own, which reads the "
    "headers of theirs"
)


class ProbeSwitches(BaseModel):
    """The keys that a probe has beside a plan's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instrument: Literal["auto", "dry-run", "cpu", "cuda"] = Field(
        default="auto", description="auto takes the truest instrument that an attached worker can play."
    )
    memory_limit_bytes: Annotated[StrictInt, Field(ge=64 * MIB, le=1 << 44)] | None = Field(
        default=None, description="Play a card of this size."
    )
    weights: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        default=SYNTHETIC, description="synthetic, hub, or a folder on the worker; real ones must be on the allow-list."
    )


class ProbeDocument(Request, ProbeSwitches):
    """The body of POST /api/v1/probes, for the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Order:
    """A probe document taken apart. `document` is the request as the probe program reads it."""

    request: Request
    switches: ProbeSwitches
    document: Mapping[str, Any]
    body_sha256: str

    @property
    def fingerprint(self) -> str:
        """The same for every spelling of one request."""
        return fingerprint_of(self.request)

    @classmethod
    def parse(cls, data: object, read: Callable[[object], Request] = Request.parse) -> "Order":
        """Read a decoded body; `read` builds the request.

        Raises:
            InvalidRequestError: names every bad field of both parts at once.
        """
        if not isinstance(data, Mapping):
            problem = FieldProblem("request", "must be an object like the body of POST /api/v1/plans")
            raise InvalidRequestError("The request has fields that cannot be used.", [problem])
        own = {key: data[key] for key in _OWN_KEYS if key in data}
        rest = {key: value for key, value in data.items() if key not in own}
        problems: list[FieldProblem] = []
        switches, request = ProbeSwitches(), None
        try:
            switches = ProbeSwitches.model_validate(own)
        except ValidationError as error:
            problems += field_problems(error.errors(include_url=False), _OWN_KEYS)
        try:
            request = read(rest)
        except InvalidRequestError as error:
            problems += error.problems
        if switches.instrument == "dry-run" and switches.weights != SYNTHETIC:
            problems.append(FieldProblem("weights", _NO_WEIGHTS))
        if request is None or problems:
            raise InvalidRequestError("The request has fields that cannot be used.", problems)
        document = request.model_dump(mode="json", exclude_none=True)
        return cls(request, switches, document, digest_of({**document, **switches.model_dump()}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An order with its open questions answered: which instrument, which card, how long, foreseen bytes."""

    order: Order
    instrument: Instrument
    card: str | None
    card_bytes: int | None
    params: int | None
    deadline_seconds: int
    prediction: Mapping[str, Any] | None
    config: Mapping[str, Any] | None = None


def fingerprint_of(request: Request) -> str:
    """SHA-256 of the canonical request."""
    return digest_of(request.model_dump(mode="json"))


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
