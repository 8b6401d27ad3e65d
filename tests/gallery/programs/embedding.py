"""An embedding model with sentence-transformers' trainer: pairs, with the rest of the batch as negatives."""

from datasets import Dataset
from made_up import text, tokenizer
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from transformers import BertConfig, BertModel

# BERT-base's sizes, which are BertConfig's defaults.
BertModel(BertConfig()).save_pretrained("model")
words = tokenizer()
words.model_max_length = 256
words.save_pretrained("model")
model = SentenceTransformer("model")
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir="output", per_device_train_batch_size=64, bf16=True, max_steps=100, report_to="none"
    ),
    train_dataset=Dataset.from_dict({"anchor": [text(64)] * 1024, "positive": [text(256)] * 1024}),
    loss=MultipleNegativesRankingLoss(model),
)
trainer.train()
