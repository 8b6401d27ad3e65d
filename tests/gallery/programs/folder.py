"""Writes what a trainer's configuration names: a checkpoint, a tokenizer and rows, in the folder where it runs.

`model/` has the sizes of meta-llama/Llama-3.2-1B, its weights are a hole in the file. `rows.jsonl` is in the format of
Alpaca; `dataset_info.json` describes it to LLaMA-Factory; `tokenizer.model` holds single bytes in tiktoken's format.
"""

import base64
import json
import struct

import torch
from made_up import text, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=131072,
    rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
    architectures=["LlamaForCausalLM"],
    dtype="bfloat16",
)
config.save_pretrained("model")
tokenizer().save_pretrained("model")
with torch.device("meta"):
    tensors = LlamaForCausalLM(config).state_dict()
header, end = {"__metadata__": {"format": "pt"}}, 0
for name, tensor in tensors.items():
    if name != "lm_head.weight":  # the embeddings' own
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
written = json.dumps(header).encode()
with open("model/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(written)) + written)
    file.truncate(8 + len(written) + end)
row = json.dumps({"instruction": text(100), "input": text(100), "output": text(1200)})
with open("rows.jsonl", "w", encoding="utf-8") as file:
    file.write(f"{row}\n" * 256)
with open("dataset_info.json", "w", encoding="utf-8") as file:
    json.dump({"rows": {"file_name": "rows.jsonl"}}, file)
with open("tokenizer.model", "w", encoding="utf-8") as file:
    file.writelines(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
