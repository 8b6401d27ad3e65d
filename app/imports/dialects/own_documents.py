"""Our own request document, and a model's config.json."""

from app.imports.rules import Reading, Rule, Trainer, words
from planner.request.schema import Request


def _settle_request(reading: Reading) -> None:
    """A key that is none of the request's stays in the document, and the request refuses it by name."""
    for item in reading.not_planned:
        reading.document[item.key] = item.value
    reading.not_planned.clear()
    reading.ignored.clear()


REQUEST = Trainer(
    id="fitproof",
    name="a Fitproof request",
    signature=words("model gpu method quantization lora training stack"),
    rules=tuple(Rule(name, name) for name in Request.model_fields),
    settle=_settle_request,
)


def _settle_model_config(reading: Reading) -> None:
    reading.use("model_type", "model", dict(reading.config))
    reading.ignored.clear()
    reading.not_planned.clear()


MODEL_CONFIG = Trainer(
    id="model-config",
    name="a model's config.json",
    signature=words(
        "model_type architectures hidden_size num_hidden_layers num_attention_heads vocab_size n_embd n_layer"
    ),
    rules=(),
    settle=_settle_model_config,
)
