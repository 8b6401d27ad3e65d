"""LoRA with TRL's GRPOTrainer; completions are drawn with transformers' own generate, without vLLM."""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer


def length(completions: list[str], **_: object) -> list[float]:
    """Rewards long completions."""
    return [float(len(completion)) for completion in completions]


trainer = GRPOTrainer(
    model="Qwen/Qwen2.5-0.5B",
    reward_funcs=length,
    args=GRPOConfig(
        output_dir="output",
        model_init_kwargs={"dtype": torch.bfloat16},
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=32,
        bf16=True,
        max_steps=100,
        report_to="none",
    ),
    train_dataset=Dataset.from_dict({"prompt": [text(64)] * 64}),
    processing_class=tokenizer(),
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
