"""The lines of one card under DeepSpeed's ZeRO that do not depend on batch or length."""

from collections.abc import Sequence
from functools import partial

from planner.ledger import PHASES, Line
from planner.memory.weights import weight_lines
from planner.parallel.static import HOST, update_lines
from planner.parallel.units import is_cut
from planner.parallel.zero import bucket_bytes
from planner.parallel.zero_gradients import Parts, at_the_step_bytes
from planner.parallel.zero_parameters import parameters_of
from planner.request.parallel import DeepSpeed
from planner.request.recipe import Recipe
from planner.tensors.tensor_storage import Placed
from planner.tensors.trainable import Trainable
from planner.units import allocated, ceil_div


def zero_static_lines(
    placed: Sequence[Placed], tensors: Sequence[Trainable], recipe: Recipe, options: DeepSpeed, layers: int
) -> list[Line]:
    """Parameters in 16 bit, whole below stage 3; float32 copies and optimizer state cut over the cards.

    `layers`: how many the decoder has; 1 if not known, as if all were one.

    Source: deepspeed/runtime/zero/stage_1_and_2.py single_partition_of_fp32_groups, stage3.py
    _create_fp32_partitions; partition_parameters.py for what is cut.
    """
    cards, on_host = recipe.layout.world, recipe.layout.optimizer_on_host
    cut, whole = ([], list(placed)) if options.stage < 3 else _cut_by_zero(placed, options, recipe)
    cut_elements = sum(item.group.params_each * item.count for item in cut)
    trained = sum(tensor.elements * tensor.count for tensor in tensors)
    share = ceil_div(trained, cards if options.stage else 1)
    flat = Trainable(name="flat partition", shape=(share,), count=1, itemsize_bytes=4)
    line = partial(Line, evidence="modelled", source="deepspeed/runtime/zero")
    host = f", {HOST}"
    parameters_bytes = allocated(2 * ceil_div(cut_elements, cards))
    in_host = recipe.layout.parameters_on_host
    updates = [found for found in update_lines([flat], recipe, on_host=on_host) if found.cause == "optimizer"]
    meanwhile_bytes = sum(found.bytes for found in updates if found.alive_in == PHASES[-1:])
    parameters = parameters_of(placed, tensors if recipe.lora else (), recipe, layers)
    step_bytes = _step_gradients_bytes(parameters.trained_in_order(), options, cards, trained, share)
    lines = [
        *weight_lines(whole, recipe, adapters_bytes=0),
        line(
            name=f"weights: this card's part{host if in_host else ''}", bytes=parameters_bytes, cause="weights",
            alive_in=() if in_host else PHASES[1:], formula="2 P / cards", working=f"2 × {cut_elements:,} / {cards}",
        ),
        line(
            name=f"float32 copies of what is trained{host if on_host else ''}", bytes=allocated(4 * share),
            cause="optimizer", alive_in=() if on_host else PHASES[1:], formula="4 n / cards", working=f"4 × {share:,}",
        ),
        line(
            name=f"float32 gradients of the step{host if on_host else ''}", bytes=allocated(4 * share),
            cause="gradients", alive_in=() if on_host else PHASES[-1:], formula="4 n / cards", working=f"4 × {share:,}",
        ),
        line(
            name="gradients before they are float32, beyond what the update takes", cause="gradients",
            formula="2 × parameters that the part touches + the larger of 8 × its largest piece and 6 n / cards",
            bytes=max(0, step_bytes - 4 * share - meanwhile_bytes),
            alive_in=PHASES[-1:], working=f"n = {trained:,}",
        ),
    ]  # fmt: skip
    if recipe.lora:
        lines += _adapter_lines(tensors, options, share, hidden_size(placed), on_host=in_host)
    if options.stage in (1, 2) and on_host:
        buffer_bytes = allocated(2 * max((tensor.elements for tensor in tensors), default=0))
        lines.append(
            Line(
                name="ZeRO buffer for gradients on their way to the host", bytes=buffer_bytes, cause="workspace",
                alive_in=PHASES[1:], formula="2 × the largest trained parameter", working=f"{buffer_bytes:,}",
                evidence="modelled", source="deepspeed/runtime/zero/stage_1_and_2.py temp_grad_buffer_for_gpu_offload",
            )
        )  # fmt: skip
    if options.stage == 3:
        reduced_bytes = bucket_bytes(options.sizes(hidden_size(placed)))
        lines += [
            Line(
                name="ZeRO reduce bucket", bytes=reduced_bytes, cause="workspace", alive_in=PHASES[1:],
                formula="2 × reduce_bucket_size", working=f"{reduced_bytes:,}", evidence="modelled",
                source="deepspeed/runtime/zero/stage3.py _setup_for_real_optimizer",
            ),
            Line(
                name=f"gradients: this card's part{host if on_host else ''}", bytes=allocated(2 * share),
                cause="gradients", alive_in=() if on_host else PHASES[1:], formula="2 n / cards",
                working=f"2 × {share:,}", evidence="modelled",
                source="deepspeed/runtime/zero/stage3.py grad_partitions_flat_buffer",
            ),
        ]  # fmt: skip
    return [*lines, *updates]


def _adapter_lines(
    tensors: Sequence[Trainable], options: DeepSpeed, share: int, hidden: int, *, on_host: bool
) -> list[Line]:
    """Below stage 3 all, in 16 bit; in stage 3 this card's part in float32, and whole what is small, until the step
    lets go of it (stage3.py step, _partition_all_parameters).
    """
    line = partial(Line, cause="adapters", evidence="modelled", source="deepspeed/runtime/zero")
    trained = sum(tensor.elements * tensor.count for tensor in tensors)
    if options.stage < 3:
        whole_bytes = allocated(2 * trained)
        return [
            line(name="adapters", bytes=whole_bytes, alive_in=PHASES[1:], formula="2 n", working=f"2 × {trained:,}")
        ]
    least = options.sizes(hidden).stage3_param_persistence_threshold
    small_bytes = sum(allocated(4 * each.elements) * each.count for each in tensors if each.elements <= least)
    part = "adapters: this card's part"
    return [
        line(
            name=f"{part}, {HOST}" if on_host else part, bytes=allocated(4 * share),
            alive_in=() if on_host else PHASES[1:], formula="4 n / cards", working=f"4 × {share:,}",
        ),
        line(
            name="adapters that stay whole", bytes=small_bytes, alive_in=PHASES[1:-1],
            formula="4 × elements of those up to stage3_param_persistence_threshold", working=f"{small_bytes:,}",
        ),
    ]  # fmt: skip


def _step_gradients_bytes(elements: Sequence[int], options: DeepSpeed, cards: int, trained: int, share: int) -> int:
    """What is there while the 16-bit gradients are turned to float32, the float32 ones among it.

    `elements`: of each trained parameter, in order; `trained`: of all; `share`: of this card's part.
    """
    if options.offload_optimizer != "none":
        return 0
    if options.stage == 3:  # stage3.py _prepare_fp32_grad_for_sub_group: the part as one flat tensor
        return allocated(2 * share) + 4 * share
    if options.stage == 0:
        return allocated(2 * trained) + 4 * share
    return at_the_step_bytes(Parts.of(elements, cards))


def _cut_by_zero(placed: Sequence[Placed], options: DeepSpeed, recipe: Recipe) -> tuple[list[Placed], list[Placed]]:
    """What stage 3 cuts, and what it leaves: small parameters, buffers."""
    least = options.sizes(hidden_size(placed)).stage3_param_persistence_threshold
    cut = [item for item in placed if is_cut(item, recipe) and item.group.params_each > least]
    return cut, [item for item in placed if item not in cut]


def hidden_size(placed: Sequence[Placed]) -> int:
    """Columns of the embedding."""
    return next(item.group.shape[-1] for item in placed if item.group.role == "embedding")
