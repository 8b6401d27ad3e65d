"""Images in the data of a model that sees: a file that names its data sets does not say what they hold."""

from app.imports.adapters.linear_targets import known_model
from app.imports.effects import Effect
from app.imports.rules import Reading

_UNSAID = Effect(
    "its data may hold images or sound, which run through the model's towers; planned with text alone",
    "with text alone",
)


def may_see(reading: Reading) -> None:
    """Leave images out where the model has a tower for them and the trainer feeds whatever the data set holds."""
    model = known_model(reading.get("model"))
    if model and model.beside:
        key = next((item.key for item in reading.recognised if item.field == "model"), "model")
        reading.leave_out(key, _UNSAID)
