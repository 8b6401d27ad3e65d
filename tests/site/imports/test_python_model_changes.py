"""What a script does to its model beside configuring it: planned where a plan has it, else named."""

import pytest

from app.imports import Imported, read

SCRIPT = """
import os, torch
from trl import SFTConfig, SFTTrainer
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype=torch.bfloat16)
{before}
args = SFTConfig("out", per_device_train_batch_size=2, max_length=512, packing=True)
trainer = SFTTrainer(model, args=args{argument})
trainer.train()
{after}
"""
ADAPTERS = "model = get_peft_model(model, LoraConfig(r=8, target_modules='all-linear'))"


def imported(before: str = "", argument: str = "", after: str = "") -> Imported:
    return read(SCRIPT.format(before=before, argument=argument, after=after), gpu="rtx-4090")


def named(before: str) -> str:
    return "; ".join(f"{item.key}: {item.why}" for item in imported(before).not_planned)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("model = model.float()", "model.float(): casts the model"),
        ("model.to(torch.float16)", "model.to(torch.float16): casts the model"),
        ("for p in model.parameters():\n    p.data = p.data.to(torch.float32)", "casts the model"),
        ("for p in model.model.layers[:4].parameters():\n    p.requires_grad = False", "trains a part"),
        ("model.lm_head.requires_grad_(False)", "trains a part"),
        ("model.resize_token_embeddings(160000)", "a larger vocabulary"),
        ("model = torch.compile(model)", "compiled graphs"),
        ("model.model.layers = model.model.layers[:8]", "changes which layers"),
        ("del model.model.layers[8:]", "changes which layers"),
        ("apply_liger_kernel_to_qwen2()", "keeps less"),
        ("torch.backends.cuda.enable_mem_efficient_sdp(False)", "switches an attention kernel off"),
        ('os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"', "CUDA_VISIBLE_DEVICES: spreads memory over cards"),
        ("model = torch.nn.DataParallel(model)", "spreads memory over cards"),
        ("torch.cuda.set_per_process_memory_fraction(0.5)", "a part of the card"),
        (f"{ADAPTERS}\nmodel.base_model.model.lm_head.weight.requires_grad = True", "trains more than the adapters"),
    ],
)
def test_what_moves_memory_is_named_by_its_source(line: str, said: str) -> None:
    assert said in named(line)


@pytest.mark.parametrize(
    "loading",
    [
        "tok = transformers.AutoTokenizer.from_pretrained('x')\nmodel = transformers.AutoModel.from_pretrained('x')",
        "model = AutoModelForCausalLM.from_pretrained('x').to('cuda')",
        "model: PreTrainedModel = AutoModelForCausalLM.from_pretrained('x')",
    ],
)
def test_the_model_is_known_however_it_is_loaded(loading: str) -> None:
    text = "\n".join(loading if line.startswith("model =") else line for line in SCRIPT.splitlines())
    found = read(text.format(before="model.half()", argument="", after=""), gpu="rtx-4090")
    assert "model.half()" in {item.key for item in found.not_planned}


def test_a_cast_of_what_is_being_loaded_is_named() -> None:
    text = SCRIPT.replace("dtype=torch.bfloat16)", "dtype=torch.bfloat16).half()", 1)
    found = read(text.format(before="", argument="", after=""), gpu="rtx-4090")
    assert [item.why.partition(";")[0] for item in found.not_planned] == ["casts the model after it is loaded"]


@pytest.mark.parametrize(
    "line",
    [
        "model.config.use_cache = False",
        "model.to('cuda')",
        'os.environ["CUDA_VISIBLE_DEVICES"] = "0"',
        "model.enable_input_require_grads()",
        "logits = outputs.logits.float()",
        "other = AutoModelForCausalLM.from_pretrained('x')\nother.requires_grad_(False)",
        f"for p in model.parameters():\n    p.requires_grad = False\n{ADAPTERS}",
        "model.requires_grad_(True)",
    ],
)
def test_what_moves_none_is_not_named(line: str) -> None:
    assert named(line) == ""


def test_what_is_done_after_the_training_is_no_part_of_it() -> None:
    assert imported(after="model = model.half()\nmodel.resize_token_embeddings(8)").not_planned == ()


@pytest.mark.parametrize(
    ("optimizer", "planned"),
    [
        ("bnb.optim.AdamW8bit(model.parameters(), lr=1e-4)", "adamw_8bit"),
        ("torch.optim.SGD(model.parameters(), lr=1e-4)", "sgd"),
        ("torch.optim.AdamW(model.parameters(), fused=True)", "adamw_torch_fused"),
    ],
)
def test_a_trainers_own_optimizer_is_the_one_that_is_planned(optimizer: str, planned: str) -> None:
    found = imported(f"opt = {optimizer}", ", optimizers=(opt, None)")
    assert found.document["training"]["optim"] == planned
    assert found.not_planned == ()


@pytest.mark.parametrize("optimizer", ["torch.optim.SGD(model.parameters(), lr=1, momentum=0.9)", "Shampoo(model)"])
def test_an_optimizer_that_is_not_known_is_named(optimizer: str) -> None:
    found = imported(f"opt = {optimizer}", ", optimizers=(opt, None)")
    assert [item.key for item in found.not_planned] == ["optimizers"]


def test_a_schedulers_place_alone_changes_no_optimizer() -> None:
    found = imported("", ", optimizers=(None, None)")
    assert (found.document["training"]["optim"], found.not_planned) == ("adamw_torch_fused", ())


LINE = "trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --max_length 512 --packing true"


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT.format(before='os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"', argument="", after=""),
        SCRIPT.format(
            before='os.environ.update({"PYTORCH_ALLOC_CONF": "expandable_segments:True"})', argument="", after=""
        ),
        f"PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True {LINE}",
        f"export PYTORCH_ALLOC_CONF='expandable_segments:True'\n{LINE}",
    ],
)
def test_the_allocators_segments_are_read_where_a_shell_or_a_script_sets_them(text: str) -> None:
    found = read(text, gpu="rtx-4090")
    assert found.document["training"]["expandable_segments"] is True
    assert found.not_planned == ()


@pytest.mark.parametrize("setting", ["max_split_size_mb:128", "backend:cudaMallocAsync"])
def test_another_setting_of_the_allocator_is_named(setting: str) -> None:
    found = read(f"PYTORCH_CUDA_ALLOC_CONF={setting} {LINE}", gpu="rtx-4090")
    assert [item.key for item in found.not_planned] == ["PYTORCH_CUDA_ALLOC_CONF"]
