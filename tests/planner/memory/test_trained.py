from planner.memory.adapters import adapter_lines
from planner.memory.gradients import gradient_lines, gradients_bytes
from planner.memory.runtime import runtime_lines, workspace_bytes
from planner.request.lora import Lora
from planner.tensors.trainable import AdapterDtypes, adapter_tensors, model_tensors
from tests.planner.tiny import LLAMA

FLOAT32, BFLOAT16 = AdapterDtypes("float32", "float32"), AdapterDtypes("bfloat16", "bfloat16")


def test_adapters_are_rounded_tensor_by_tensor() -> None:
    tensors = adapter_tensors(LLAMA, "llama", Lora(r=1, target_modules=("k_proj",)), FLOAT32)
    matrices, magnitudes, *_, uncast = adapter_lines(tensors)
    assert matrices.bytes == 2 * (1024 + 512)  # A is 1 x 256, B is 128 x 1
    assert (magnitudes.bytes, uncast.bytes) == (0, 0)
    assert "load" not in matrices.alive_in


def test_sixteen_bit_adapters_were_float32_first() -> None:
    tensors = adapter_tensors(LLAMA, "llama", Lora(r=16), BFLOAT16)
    matrices, *_, uncast = adapter_lines(tensors)
    assert (uncast.bytes, uncast.alive_in) == (matrices.bytes, ("prepare",))


def test_gradients_have_the_dtype_of_what_is_trained() -> None:
    halves = adapter_tensors(LLAMA, "llama", Lora(r=16), BFLOAT16)
    singles = adapter_tensors(LLAMA, "llama", Lora(r=16), FLOAT32)
    assert 2 * gradients_bytes(halves) == gradients_bytes(singles)


def test_gradients_wait_for_the_optimizer() -> None:
    (gradients,) = gradient_lines(adapter_tensors(LLAMA, "llama", Lora(r=8), FLOAT32))
    assert gradients.alive_in == ("optimizer",)


def test_full_fine_tuning_trains_every_parameter() -> None:
    tensors = model_tensors(LLAMA, "bfloat16")
    assert sum(t.elements * t.count for t in tensors) == sum(group.params for group in LLAMA)
    assert [tensor.name for tensor in tensors if tensor.embedding] == ["model.embed_tokens.weight"]


def test_cublas_workspaces_grow_on_hopper_and_blackwell() -> None:
    sizes = {
        capability: workspace_bytes(capability) for capability in ((7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0))
    }
    assert sizes[(8, 9)] == 8_519_680
    assert {capability for capability, size in sizes.items() if size == 32 << 20} == {(9, 0), (10, 0), (12, 0)}


def test_the_context_is_an_allowance_outside_the_allocator() -> None:
    workspaces, context = runtime_lines((8, 9), context_bytes=500, context_source="a reading")
    assert workspaces.bytes == 2 * 8_519_680
    assert (context.bytes, context.alive_in, context.evidence) == (500, (), "allowance")
