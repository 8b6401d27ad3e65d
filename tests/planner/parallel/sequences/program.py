"""The program of the recorded runs: `torchrun … program.py SETTING`, full fine-tuning by transformers' Trainer.

SETTING is a row's `setting` as JSON (tests/planner/parallel/sequences/record.py).
"""

import json
import sys
import tempfile
from typing import Any

import torch
from accelerate import ParallelismConfig
from accelerate.utils import TorchContextParallelConfig
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, LlamaConfig, Trainer, TrainingArguments


class Rows(Dataset[dict[str, torch.Tensor]]):
    """As many equal rows as a few steps take."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.ones(self.length, dtype=torch.long)
        return {"input_ids": ids, "labels": ids.clone()}


def main() -> None:
    setting: dict[str, Any] = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=setting["batch"],
            max_steps=3,
            bf16=True,
            gradient_checkpointing=setting["checkpointing"],
            optim="adamw_torch_fused",
            report_to=[],
            save_strategy="no",
            fsdp="full_shard auto_wrap",
            fsdp_config={"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]},
            parallelism_config=ParallelismConfig(
                cp_size=setting["parts"],
                dp_shard_size=setting["groups"],
                cp_handler=TorchContextParallelConfig(cp_comm_strategy=setting["rotates"]),
            ),
        )
        model = AutoModelForCausalLM.from_config(
            LlamaConfig(**setting["model"]), dtype=torch.float32, attn_implementation="sdpa"
        )
        Trainer(model=model, args=arguments, train_dataset=Rows(setting["length"])).train()


if __name__ == "__main__":
    main()
