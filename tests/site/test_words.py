"""Numbers and sentences as people read them."""

from app.static_files import static_url
from app.templating import count, gb, gib, percent, size, thousands
from app.views.messages import distance_in_words, short_gpu_name, verdict_sentence
from planner.units import GIB, MIB


def test_sizes_have_three_digits_and_the_unit_that_suits_them() -> None:
    amounts = (0, 512, 8192, 160 * MIB, 1002 * MIB, 5.31 * GIB, 64.4 * GIB, 700 * GIB)
    said = [size(amount).replace("\u202f", " ") for amount in amounts]
    assert said == ["0 B", "512 B", "8.00 KiB", "160 MiB", "0.98 GiB", "5.31 GiB", "64.4 GiB", "700 GiB"]


def test_gib_gb_counts_and_shares() -> None:
    assert gib(-2.5 * GIB) == "−2.50\u202fGiB"
    assert gib(23.5166 * GIB) == "23.5\u202fGiB"
    assert gb(6_500_000_000) == "6.5\u202fGB"
    assert count(8_030_261_248) == "8.03\u202fB"
    assert count(512) == "512"
    assert count(999_400_000) == "999\u202fM"
    assert count(999_600_000) == "1\u202fB"
    assert thousands(1234567) == "1,234,567"
    assert percent(0.734) == "73\u202f%"


def test_each_verdict_has_its_sentence() -> None:
    sentences = [
        verdict_sentence("fits", 6 * GIB, 5 * GIB),
        verdict_sentence("tight", GIB, -GIB),
        verdict_sentence("tight", -GIB, -2 * GIB),
        verdict_sentence("tight", GIB, GIB),
        verdict_sentence("does_not_fit", -3 * GIB, -4 * GIB),
        verdict_sentence("fits", 0, 0),
        verdict_sentence("tight", MIB, -GIB),
    ]
    assert [sentence.replace("\u202f", " ") for sentence in sentences] == [
        "Fits, with 6.0 GiB to spare.",
        "Tight, likely fits: 1.00 GiB to spare, or 1.00 GiB short at worst.",
        "Tight, likely not: 1.00 GiB short.",
        "Tight, likely fits: 1.00 GiB to spare.",
        "Does not fit: 3.0 GiB too much.",
        "Fits, by filling the card.",
        "Tight, likely fits: it fills the card.",
    ]


def test_a_distance_is_told_as_a_person_would() -> None:
    assert distance_in_words(-0.00004) == "agree to a hundredth of a per cent"
    assert distance_in_words(0.0123) == "are 1.23 % above it"
    assert distance_in_words(-0.5) == "are 50.00 % below it"


def test_cards_are_named_as_people_say_them() -> None:
    assert short_gpu_name("NVIDIA GeForce RTX 4090") == "RTX 4090"
    assert short_gpu_name("Tesla T4") == "Tesla T4"


def test_static_addresses_change_with_their_content() -> None:
    assert static_url("css/site.css").startswith("/static/css/site.css?v=")
