import pytest

from planner.catalog.names import entry, nearest, normal_form, search, words


@pytest.mark.parametrize(
    ("typed", "form"),
    [
        ("RTX4090", "rtx 4090"),
        ("rtx-4090", "rtx 4090"),
        ("4080ti", "4080 ti"),
        ("RTX 4070 TiSUPER", "rtx 4070 tisuper"),
        ("H100 80 GB", "h100 80gb"),
        ("24 GiB", "24gb"),
        ("Qwen2.5-7B", "qwen 2.5 7b"),
        ("meta-llama/Llama-2-7b-hf", "meta llama llama 2 7b hf"),
        ("Qwen3-30B-A3B", "qwen 3 30b a3b"),
        ("Mistral-7B-v0.1.", "mistral 7b v0.1"),
        ("  ", ""),
    ],
)
def test_spellings_of_one_name_have_one_form(typed, form):
    assert normal_form(typed) == form


def test_words_of_garbage_are_no_words():
    assert words("!?—") == ()


ENTRIES = (
    entry("acme/anvil-7b", ["acme/anvil-7b", "anvil-7b"], weight=5),
    entry("acme/anvil-7b-chat", ["acme/anvil-7b-chat", "anvil-7b-chat"], weight=900),
    entry("acme/anvil-70b", ["acme/anvil-70b", "anvil-70b"], more=["desktop"], weight=1),
)


def test_search_puts_the_very_name_before_the_popular_one():
    assert search("anvil 7b", ENTRIES) == ["acme/anvil-7b", "acme/anvil-7b-chat"]


def test_search_takes_beginnings_of_words_but_ranks_them_last():
    assert search("anvil 7", ENTRIES) == ["acme/anvil-7b-chat", "acme/anvil-7b", "acme/anvil-70b"]


def test_search_needs_every_word():
    assert search("anvil desktop 7b", ENTRIES) == []
    assert search("anvil desktop", ENTRIES) == ["acme/anvil-70b"]


def test_an_empty_query_lists_everything():
    assert len(search("", ENTRIES)) == len(ENTRIES)


def test_a_typing_mistake_finds_its_neighbours():
    assert nearest("anvl-70b", ENTRIES)[0] == "acme/anvil-70b"


def test_a_stranger_has_no_neighbours():
    assert nearest("zzz", ENTRIES) == []
