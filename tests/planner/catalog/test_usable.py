from planner.catalog.usable import Sample, usable_memory
from planner.units import MIB


def card(card_id="x", smi_mib=None, readings=(), family="acme"):
    return Sample(
        id=card_id, family=family, smi_mib=smi_mib, torch_readings=tuple((os, mib * MIB) for os, mib in readings)
    )


KIN = card("kin", 1000, [("linux", 960)])
BIG_KIN = card("big", 2000, [("linux", 1970)])


def test_the_smallest_linux_total_counts():
    sample = card(smi_mib=1000, readings=[("linux", 970), ("linux", 950), ("windows_or_wsl", 1000)])
    usable = usable_memory(sample, [sample])
    assert (usable.bytes, usable.evidence) == (950 * MIB, "measured")
    assert usable.source == "smallest of 2 torch totals printed on Linux"


def test_the_unusual_ecc_state_does_not_count():
    sample = card(readings=[("linux", 970), ("linux_ecc_on", 900)])
    assert usable_memory(sample, []).bytes == 970 * MIB


def test_a_single_linux_total_is_called_so():
    assert usable_memory(KIN, []).source == "the one torch total printed on Linux"


def test_without_a_linux_total_the_familys_largest_gap_is_taken_off():
    usable = usable_memory(card(smi_mib=900, readings=[("unknown", 899)]), [KIN, BIG_KIN])
    assert (usable.bytes, usable.evidence) == (860 * MIB, "modelled")
    assert "900 MiB less 40 MiB" in usable.source
    assert "(acme, seen on kin)" in usable.source


def test_the_gap_of_a_card_larger_than_its_kin_grows_with_it():
    assert usable_memory(card(smi_mib=4000), [KIN, BIG_KIN]).bytes == (4000 - 80) * MIB


def test_a_windows_total_stands_for_the_drivers():
    assert usable_memory(card(readings=[("windows_or_wsl", 900)]), [KIN]).bytes == 860 * MIB


def test_nothing_is_claimed_without_a_reading_or_without_kin():
    assert usable_memory(card(), [KIN]) is None
    assert usable_memory(card(smi_mib=900, family="other"), [KIN]) is None
