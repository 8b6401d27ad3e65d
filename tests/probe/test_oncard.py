"""Functions that ask whether a tensor lies on CUDA get the answer of the card that the dry run follows."""

import ast
from pathlib import Path

import liger_kernel.ops
import pytest
import torch

from planner.probe.launches import ASKS_ABOUT_CUDA
from planner.probe.oncard import as_on_cuda
from tests.probe.tiny import request, watch

VOCABULARY, HIDDEN = 8192, 64
# Modules that ask and that no model is given: other losses and layers, vendors' own kernels behind an opt-in.
NOT_OURS = {
    "dyt", "fused_linear_jsd", "fused_linear_kl_div", "fused_linear_scaled_cross_entropy", "mlp", "modulated_rms_norm",
    "poly_norm",
}  # fmt: skip


def where(tensor: torch.Tensor) -> str:
    return f"{tensor.device.type} {tensor.dtype}"


def switches(model: str, autocast: str | None) -> dict[str, object]:
    return {
        "model_dtype": model, "autocast": autocast, "kbit_preparation": False, "adapter_dtype": "float32",
        "outputs_kept": False,
    }  # fmt: skip


def test_a_function_compiled_for_the_card_sees_cuda_and_is_otherwise_itself() -> None:
    tensor = torch.zeros(1)
    assert where(tensor) == "cpu torch.float32"
    assert as_on_cuda(where)(tensor) == "cuda torch.float32"  # type: ignore[arg-type]  # a plain function is a FunctionType
    assert as_on_cuda(where).__globals__ is globals()  # type: ignore[arg-type,attr-defined]  # the same


def added_copies(stack: object, card: str) -> list[int]:
    """Bytes per element of what is made in the shape of the head's weight during the loss, its gradient left out."""
    training = {"loss": "liger", "max_length": 256}
    asked = request(config={"vocab_size": VOCABULARY}, method="full", stack=stack, training=training)
    made, phase = [], ""
    for event in watch(asked, follow=card, steps=1).events:
        phase = event.label if event.action == "phase" else phase
        each, rest = divmod(event.size_bytes, VOCABULARY * HIDDEN)
        if phase == "first_loss" and event.action == "alloc" and not rest and event.label == "aten.mm.default":
            made.append(each)
        if phase == "first_loss" and event.action == "alloc" and not rest and event.label == "aten._to_copy.default":
            made.append(-each)
    return made


@pytest.mark.parametrize(
    ("stack", "card", "products", "widened"),
    [
        ("loop", "sm_89", 0, 0),
        ("loop", "sm_75", 2, 4),
        (switches("float16", None), "sm_75", 2, 4),
        (switches("float32", None), "sm_89", 4, 0),
        (switches("float32", "bfloat16"), "sm_89", 0, 0),
        (switches("float32", "bfloat16"), "sm_75", 2, 4),
        (switches("bfloat16", "float16"), "sm_89", 2, 4),
    ],
)
def test_liger_adds_to_the_gradient_of_a_trained_head_in_place_where_the_card_and_the_dtypes_allow(
    stack: object, card: str, products: int, widened: int
) -> None:
    made = added_copies(stack, card)
    assert {each for each in made if each > 0} == ({products} if products else set())
    assert (-widened in made) == bool(widened)


def test_each_multiprocessor_sums_its_own_part_of_a_norms_gradient() -> None:
    asked = request(method="full", training={"loss": "liger"})
    for card, multiprocessors in (("sm_89", 128), ("sm_75", 40)):
        partial_bytes = multiprocessors * HIDDEN * 4
        sizes = [event.size_bytes for event in watch(asked, follow=card, steps=1).events if event.action == "alloc"]
        assert sizes.count(partial_bytes) >= 5  # two norms in each of two layers, and the last


def test_every_kernel_of_ligers_that_asks_about_cuda_is_answered_or_known_to_be_unused() -> None:
    folder = Path(liger_kernel.ops.__file__).parent
    asking = {}
    for path in folder.glob("*.py"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        found = tuple(sorted(node.name for node in functions if _asks(node)))
        if found:
            asking[path.stem] = found
    assert {name: found for name, found in asking.items() if name not in NOT_OURS} == ASKS_ABOUT_CUDA


def _asks(function: ast.FunctionDef) -> bool:
    text = ast.unparse(function)
    return "is_cuda" in text or any(f".device.type {sign} 'cuda'" in text for sign in ("==", "!="))
