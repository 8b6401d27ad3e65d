"""LoRA of a vision-language model with TRL's SFTTrainer: each row has a picture of 448 x 448 pixels."""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from peft import LoraConfig
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessor
from transformers.models.qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from trl import SFTConfig, SFTTrainer

SIGNS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} <eos> {% endfor %}"
)

words = tokenizer()
words.add_special_tokens({"additional_special_tokens": SIGNS})
image_pad, video_pad, start, end = words.convert_tokens_to_ids(SIGNS)
processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), words, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)
# The sizes of Qwen/Qwen2.5-VL-3B-Instruct's config.json; its token ids are this tokenizer's.
config = Qwen2_5_VLConfig(
    text_config={
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    },
    vision_config={
        "hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "num_heads": 16, "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112, "tokens_per_second": 2,
    },
    image_token_id=image_pad, video_token_id=video_pad, vision_start_token_id=start, vision_end_token_id=end,
    tie_word_embeddings=True,
)  # fmt: skip
with torch.device("cuda"):
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
question = [{"type": "image"}, {"type": "text", "text": text(50)}]
answer = [{"type": "text", "text": text(100)}]
messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
rows = [{"images": [Image.new("RGB", (448, 448), (number, 0, 0))], "messages": messages} for number in range(32)]
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="output",
        per_device_train_batch_size=2,
        max_length=None,
        bf16=True,
        max_steps=100,
        report_to="none",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=processor,
    peft_config=LoraConfig(r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"),
)
trainer.train()
