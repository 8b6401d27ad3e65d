"""What one of the cards holds throughout: the weights of its own modules, their adapters, gradients and optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from planner.ledger import Line
from planner.memory.adapters import adapter_lines
from planner.memory.gradients import gradient_lines
from planner.memory.optimizer import optimizer_lines
from planner.memory.scaler import loss_lines, scaler_lines
from planner.memory.weights import weight_lines
from planner.parallel.device_map.modules import layers_with, place_of
from planner.parallel.device_map.spread import Spread
from planner.request.recipe import Recipe
from planner.step.over_cards.play import FIRST
from planner.tensors.step_tensors import ColumnMeans
from planner.tensors.tensor_storage import Placed
from planner.tensors.trainable import Trainable


def standing_on_card(  # noqa: PLR0913, PLR0917  a run, where it lies, and which card
    placed: Sequence[Placed],
    tensors: Sequence[Trainable],
    recipe: Recipe,
    spread: Spread,
    card: int,
    column_means: ColumnMeans | None,
) -> list[Line]:
    """Every line of one card that does not depend on the step. `tensors` are what the whole run trains;
    `column_means`: as `optimizer_lines` takes them.
    """
    own = weights_on_card(placed, spread, card)
    trained = trained_on_card(tensors, placed, spread, card)
    adapters = adapter_lines(trained, peft_type=recipe.lora.peft_type) if recipe.lora else []
    training = recipe.training
    lines = [
        *weight_lines(own, recipe, adapters_bytes=sum(line.bytes for line in adapters)),
        *adapters,
        *gradient_lines(trained),
        *optimizer_lines(
            trained,
            training.optim,
            clips=training.max_grad_norm > 0,
            embeddings_in_32bit=recipe.by_trainer,
            column_means=column_means,
        ),
        *([*loss_lines(), *scaler_lines(scales_loss=recipe.scales_loss)] if card == FIRST else ()),
    ]
    return [replace(line, evidence="modelled") for line in lines if line.bytes]


def weights_on_card(placed: Sequence[Placed], spread: Spread, card: int) -> list[Placed]:
    """The tensors that a card has, and how many of each."""
    layers, found = len(spread.layers), []
    for item in placed:
        numbers = layers_with(item, layers)
        if "*" not in item.group.name:
            if spread.of(place_of(item.group.name, item.group.role)) == card:
                found.append(item)
        elif own := [number for number in numbers if spread.layers[number] == card]:
            found.append(replace(item, count=item.count * len(own) // len(numbers)))
    return [item for item in found if item.count]


def trained_on_card(
    tensors: Sequence[Trainable], placed: Sequence[Placed], spread: Spread, card: int
) -> list[Trainable]:
    """What a card trains: adapters lie with the weights that they adapt (peft tuners_utils.py,
    _move_adapter_to_device_of_base_layer).
    """
    roles = {item.group.name: item.group.role for item in placed}
    layers, found = len(spread.layers), []
    for tensor in tensors:
        if "*" not in tensor.name:
            if spread.of(place_of(tensor.name, _role_of(tensor, roles))) == card:
                found.append(tensor)
            continue
        numbers = tensor.layers or range(layers)
        own = tuple(number for number in numbers if spread.layers[number] == card)
        if own:
            count = tensor.count * len(own) // len(numbers)
            found.append(replace(tensor, count=count, layers=own if tensor.layers else ()))
    return found


def _role_of(tensor: Trainable, roles: Mapping[str, str]) -> str:
    if tensor.embedding:
        return "embedding"
    named = [role for name, role in roles.items() if tensor.name.startswith(name.removesuffix(".weight"))]
    return named[0] if named else "head"
