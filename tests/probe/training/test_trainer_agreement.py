"""Our step stands for the real trainers: the same run through `Trainer` and `SFTTrainer` peaks within 0.5 %."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft import get_peft_model
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from planner.probe.devices.cpu import own_quantization_tables
from planner.probe.meters.live import LiveMeter
from planner.probe.training import loss_scaling
from planner.probe.training.adapters import adapter_config
from planner.probe.training.configs import config_of
from planner.probe.training.load import load_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.probe.tiny import peaks, request, watch

STEPS = 3
CLOSE = 0.005
ASKED = {"config": {"vocab_size": 2048}, "training": {"max_length": 128}}


class Tokens(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, recipe: Recipe, vocabulary: int) -> None:
        self.rows = [torch.randint(vocabulary, (recipe.length,)) for _ in range(STEPS * recipe.batch)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.rows[index]
        return {"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)}


def arguments(recipe: Recipe, folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": recipe.batch,
        "max_steps": STEPS,
        "optim": recipe.training.optim,
        "gradient_checkpointing": recipe.training.gradient_checkpointing,
        "bf16": recipe.autocast == "bfloat16",
        "fp16": recipe.autocast == "float16",
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


class ScalingTrainer(Trainer):
    """The Trainer as it is on a card with fp16=True; accelerate makes no scaler for a CPU."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.native_amp = True
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=loss_scaling.INITIAL_SCALE)


def with_scaling_trainer(model: PreTrainedModel, recipe: Recipe, tokens: Tokens, folder: Path) -> Trainer:
    adapted = get_peft_model(model, adapter_config(recipe.lora))
    return ScalingTrainer(model=adapted, args=TrainingArguments(**arguments(recipe, folder)), train_dataset=tokens)


def with_trainer(model: PreTrainedModel, recipe: Recipe, tokens: Tokens, folder: Path) -> Trainer:
    adapted = get_peft_model(model, adapter_config(recipe.lora))
    return Trainer(model=adapted, args=TrainingArguments(**arguments(recipe, folder)), train_dataset=tokens)


def with_sft_trainer(model: PreTrainedModel, recipe: Recipe, tokens: Tokens, folder: Path) -> Trainer:
    words = Tokenizer(models.WordLevel({"a": 0, "<pad>": 1, "<eos>": 2}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(recipe, folder), max_length=recipe.length),
        train_dataset=datasets.Dataset.from_dict({"input_ids": [row.tolist() for row in tokens.rows]}),
        processing_class=tokenizer,
        peft_config=adapter_config(recipe.lora),
    )


def peak_of(asked: Request, build: Any, folder: Path) -> int:
    """Load as the probe loads, then let the real trainer do the rest."""
    recipe = Recipe.of(asked)
    config = config_of(asked, recipe)
    tokens = Tokens(recipe, config.vocab_size)
    meter = LiveMeter()
    with own_quantization_tables(), meter:
        meter.begin("load")
        model = load_model(asked, recipe, config, torch.device("cpu"), "synthetic")
        trainer = build(model, recipe, tokens, folder)
        meter.begin("train")
        trainer.train()
    return peaks(meter)["train"]


@pytest.mark.parametrize(
    ("stack", "build"), [("trainer", with_trainer), ("trl", with_sft_trainer)], ids=["Trainer", "SFTTrainer"]
)
def test_the_real_trainer_peaks_where_our_step_does(stack: str, build: Any, tmp_path: Path) -> None:
    asked = request(**ASKED, stack=stack)
    real_bytes = peak_of(asked, build, tmp_path)
    our_bytes = max(peaks(watch(asked, steps=STEPS)).values())
    assert our_bytes == pytest.approx(real_bytes, rel=CLOSE)


def test_so_does_the_trainer_that_scales_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scaling, "scales_on", lambda _: True)
    asked = request(**ASKED, quantization={"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"})
    real_bytes = peak_of(asked, with_scaling_trainer, tmp_path)
    our_bytes = max(peaks(watch(asked, steps=STEPS)).values())
    assert our_bytes == pytest.approx(real_bytes, rel=CLOSE)
