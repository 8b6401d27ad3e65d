"""What the gallery's programs train on: a tokenizer of a hundred words and texts; none asks a hub."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

TEMPLATE = "{% for message in messages %}{{ message['content'] }} <eos> {% endfor %}"


def tokenizer() -> PreTrainedTokenizerFast:
    """Word by word, so that a text has as many tokens as words."""
    words = {"<eos>": 0, "<unk>": 1, **{f"word{number}": number + 2 for number in range(100)}}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
    made.chat_template = TEMPLATE
    return made


def text(words: int) -> str:
    """So many words."""
    return " ".join(f"word{number % 100}" for number in range(words))
