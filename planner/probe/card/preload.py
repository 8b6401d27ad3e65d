"""Puts virtual cards into this process, or into a child's environment."""

import ctypes
import os
import secrets
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from planner.probe.card.build import STATE, BuiltCard, build_card
from planner.probe.card.refusal import VirtualCardError
from planner.probe.card.spec import CardSpec, cards_text

CARDS_VARIABLE = "FITPROOF_CARDS"


def insert_cards(
    cards: Sequence[CardSpec], memory_limit_bytes: int | None = None, site: Path | None = None
) -> BuiltCard:
    """Load the stand-ins into this process; what imports torch afterwards finds these cards and no others.

    A library that is loaded already wins over one of the same soname on disk, so NVIDIA's own may stay installed.
    `site` is the site-packages folder that has torch, where that is another than this Python's own.

    Raises:
        VirtualCardError: torch is imported already without the card, or the card cannot be built.
    """
    if CARDS_VARIABLE in os.environ and _loaded():
        set_cards(cards, memory_limit_bytes)
        return build_card(site)
    if "torch" in sys.modules:
        raise VirtualCardError("A virtual card comes before torch: insert it before anything imports torch.")
    built = build_card(site)
    os.environ.update(_environment(built, cards, memory_limit_bytes))
    for library in built.libraries:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    set_cards(cards, memory_limit_bytes)
    return built


def card_environment(
    cards: Sequence[CardSpec], memory_limit_bytes: int | None = None, site: Path | None = None
) -> dict[str, str]:
    """What a child's environment needs, beside the parent's, to have these cards whatever it runs.

    All processes under one such environment share the cards, as the ranks of a run do; another call makes other cards.
    `site` is the site-packages folder whose torch the child imports, where that is another than this process's.

    Raises:
        VirtualCardError: the card cannot be built.
    """
    built = build_card(site)
    before = [item for item in os.environ.get("LD_PRELOAD", "").split(":") if item and str(built.folder) not in item]
    preload = ":".join([*map(str, built.libraries), *before])
    shared = {"LD_PRELOAD": preload, "FITPROOF_CARD_SET": secrets.token_hex(8)}
    return {**_environment(built, cards, memory_limit_bytes), **shared}


def set_cards(cards: Sequence[CardSpec], memory_limit_bytes: int | None = None) -> None:
    """Change the cards of a process that has the stand-ins loaded, before it takes any memory of them.

    A parent may import torch once and fork: each child chooses its cards. CUDA must not be initialized before.

    Raises:
        VirtualCardError: memory of the cards is taken already.
    """
    text = cards_text(card.limited(memory_limit_bytes) for card in cards)
    if state_library().card_configure(text.encode()) != 0:
        raise VirtualCardError("The cards cannot be changed any more: this process has taken memory of them.")
    os.environ[CARDS_VARIABLE] = text


@cache
def state_library() -> ctypes.CDLL:
    """The shared state of the stand-ins, as loaded in this process."""
    path = _loaded()
    if path is None:
        raise VirtualCardError("There is no virtual card in this process: insert one first.")
    library = ctypes.CDLL(str(path))
    for name in ("card_refusal", "card_modelled"):
        getattr(library, name).restype = ctypes.c_char_p
    for name in ("card_used_bytes", "card_peak_bytes", "card_context_bytes", "card_free_bytes"):
        getattr(library, name).restype = ctypes.c_uint64
    return library


def _loaded() -> Path | None:
    """Where this process has the state mapped from."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(f"/{STATE}"):
            return Path(line.split(maxsplit=5)[5])
    return None


def _environment(built: BuiltCard, cards: Sequence[CardSpec], memory_limit_bytes: int | None) -> dict[str, str]:
    return {
        CARDS_VARIABLE: cards_text(card.limited(memory_limit_bytes) for card in cards),
        # Triton links its launchers to the driver in this folder.
        "TRITON_LIBCUDA_PATH": str(built.folder),
    }
