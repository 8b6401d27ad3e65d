"""QLoRA with Unsloth's FastLanguageModel and TRL's SFTTrainer."""

from unsloth import FastLanguageModel  # isort: skip  (it changes what comes after it)
from datasets import Dataset
from made_up import text
from trl import SFTConfig, SFTTrainer

model, words = FastLanguageModel.from_pretrained("model", max_seq_length=1024, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(
    model,
    r=16,
    lora_alpha=16,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    use_gradient_checkpointing="unsloth",
)
trainer = SFTTrainer(
    model=model,
    processing_class=words,
    train_dataset=Dataset.from_dict({"text": [text(1100)] * 256}),
    args=SFTConfig(
        output_dir="output",
        per_device_train_batch_size=2,
        max_length=1024,
        optim="adamw_8bit",
        bf16=True,
        max_steps=100,
        report_to="none",
    ),
)
trainer.train()
