"""Requests over every route and form, drawn from the addresses that the server publishes and those of its pages."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from app.forms.fields import FIELDS
from app.forms.plan_form import query_of
from planner.errors import FitproofError
from planner.request.schema import Request as PlanRequest
from tests.attack.values import GPUS, MODELS, anything, config, document, word

PAGES = ("/", "/plan", "/plan.json", "/plan.md", "/map", "/compare", "/guide", "/api/v1/limits")
_OTHERS = (
    "/models", "/gpus", "/import", "/import?example=axolotl", "/accuracy", "/suggest/models", "/suggest/gpus",
    "/suggest/nothing", "/probes", "/probes/%00", "/probes/none", "/api/v1/models", "/api/v1/gpus", "/api/v1/probes",
    "/api/v1/workers", "/api/v1/evidence", "/api/v1/openapi.json", "/readyz", "/metrics", "/static/../app/main.py",
    "/static/%2e%2e/x", "/static/css/", "/.env", "/api/v1/plans", "/nowhere", "//", "/%ff",
)  # fmt: skip
_METHODS = ("GET",) * 12 + ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_KEYS = (
    "base_model", "model_name_or_path", "adapter", "load_in_4bit", "load_in_8bit", "sequence_len", "micro_batch_size",
    "lora_r", "lora_target_modules", "optimizer", "bf16", "fp16", "gradient_checkpointing", "sample_packing", "stage",
    "finetuning_type", "cutoff_len", "per_device_train_batch_size", "max_length", "quantization_bit", "deepspeed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. `leaves`: the client does not wait for the answer."""

    method: str
    target: str
    body: bytes = b""
    content_type: str = "application/json"
    leaves: bool = False

    def raw(self) -> bytes:
        """As it goes over the wire."""
        head = f"{self.method} {self.target} HTTP/1.1\r\nhost: attack\r\naccept: text/html\r\naccept-encoding: gzip\r\n"
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            head += f"content-type: {self.content_type}\r\ncontent-length: {len(self.body)}\r\n"
        return f"{head}\r\n".encode() + self.body


def hostile(rng: random.Random) -> Sent:
    """Whatever a stranger may think of."""
    chance = rng.random()
    if chance < 0.30:
        sent = _page(rng)
    elif chance < 0.55:
        sent = Sent("POST", "/api/v1/plans", _json(rng, document(rng)))
    elif chance < 0.70:
        sent = _import(rng)
    elif chance < 0.80:
        sent = _form(rng)
    else:
        sent = _other(rng)
    return Sent(sent.method, sent.target, sent.body, sent.content_type, leaves=rng.random() < 0.03)


def ordinary(rng: random.Random) -> Sent:
    """What a person does who plans a run: pages, the API, a map now and then."""
    model, gpu = rng.choice(_USUAL_MODELS), rng.choice(("rtx-4090", "a100-pcie-80gb", "rtx-3060-12gb"))
    length, batch = rng.choice((512, 1024, 2048, 4096)), rng.choice((1, 2, 4))
    if rng.random() < 0.4:
        training = {"max_length": length, "per_device_train_batch_size": batch}
        return Sent("POST", "/api/v1/plans", json.dumps({"model": model, "gpu": gpu, "training": training}).encode())
    query = urlencode({"model": model, "gpu": gpu, "max_length": length, "per_device_train_batch_size": batch})
    return Sent("GET", f"{rng.choice(('/plan', '/plan', '/plan', '/map', '/compare', '/guide'))}?{query}")


_USUAL_MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B", "mistralai/Mistral-7B-v0.1", "Qwen/Qwen2.5-0.5B")


def _page(rng: random.Random) -> Sent:
    return Sent("GET", f"{rng.choice(PAGES)}?{_query(rng)}")


def _query(rng: random.Random) -> str:
    """A plan's address: of a valid plan, or field by field."""
    if rng.random() < 0.3:
        try:
            return query_of(PlanRequest.parse(document(rng)).model_dump(mode="json"))
        except (FitproofError, UnicodeError):  # a lone surrogate has no address
            pass
    pairs = [("model", rng.choice(MODELS)), ("gpu", rng.choice(GPUS))]
    for _ in range(rng.choice((0, 1, 2, 5))):
        field = rng.choice(FIELDS)
        pairs.append((field.name, str(anything(rng, 0)) if rng.random() < 0.6 else word(rng)))
    if rng.random() < 0.1:
        pairs.append((word(rng), word(rng)))
    if rng.random() < 0.1:
        pairs += [("a", word(rng)), ("b", "/plan?model=" + rng.choice(MODELS))] * rng.choice((1, 1, 101))
    return _encoded(pairs)


def _encoded(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)[:16_000]


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _json(rng: random.Random, value: object) -> bytes:
    body = json.dumps(value).encode()
    if rng.random() < 0.05:
        cut = rng.randrange(len(body) + 1)
        body = body[:cut] + rng.choice((b"", b"\x00", b"NaN", b"[" * 2_000, b"\xff")) + body[cut:]
    return body


def _import(rng: random.Random) -> Sent:
    text = _trainer_file(rng)
    if rng.random() < 0.5:
        gpu, model = rng.choice((*GPUS[:3], word(rng))), rng.choice(("", rng.choice(MODELS), word(rng)))
        return Sent("POST", "/api/v1/imports", _json(rng, {"config": text, "gpu": gpu, "model": model}))
    body = _encoded((("config", text), ("gpu", rng.choice(GPUS)))).encode()
    return Sent("POST", "/import", body, "application/x-www-form-urlencoded")


def _trainer_file(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.15:
        return json.dumps(config(rng))
    if chance < 0.25:
        return rng.choice(("x: a" + ":" * 65_000, "- " * 5_000, "&a [" + "*a," * 50 + "]", "? " * 2_000, "{" * 3_000))
    lines = [f"base_model: {rng.choice(MODELS)}"]
    for _ in range(rng.choice((1, 4, 12, 40))):
        value = anything(rng, 1)
        lines.append(f"{rng.choice((*_KEYS, word(rng)))}: {value if rng.random() < 0.5 else json.dumps(value)}")
    return "\n".join(lines)


def _form(rng: random.Random) -> Sent:
    target = rng.choice(("/prove", "/token", "/probes/none/cancel", "/api/v1/probes", "/api/v1/evidence", "/import"))
    if target.startswith("/api/"):
        return Sent("POST", target, _json(rng, document(rng)))
    if rng.random() < 0.2:
        part = (
            f'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n{_trainer_file(rng)}\r\n--x--\r\n'
        )
        return Sent("POST", target, part.encode("utf-8", "surrogatepass"), "multipart/form-data; boundary=x")
    pairs = [("plan", _query(rng)), ("instrument", word(rng)), ("token", word(rng)), ("onward", word(rng))]
    return Sent("POST", target, _encoded(pairs).encode(), "application/x-www-form-urlencoded")


def _other(rng: random.Random) -> Sent:
    target = rng.choice(_OTHERS)
    if rng.random() < 0.3:
        target += ("&" if "?" in target else "?") + _encoded([("q", word(rng)), (word(rng), word(rng))])
    return Sent(rng.choice(_METHODS), target)
