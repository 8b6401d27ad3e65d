"""What this process has taken of its virtual cards."""

from dataclasses import dataclass

from planner.probe.card.preload import state_library

_DEVICE, _MANAGED, _PINNED = range(3)


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes taken now, and the most that was taken since the last reset."""

    used_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class CardReadings:
    """Bytes of one card, kept apart: on the device, managed (it may lie on either side), and pinned on the host.

    `context_bytes` is 0 until the process has touched the card. `free_bytes` is what cudaMemGetInfo tells.
    """

    device: Taken
    managed: Taken
    pinned: Taken
    context_bytes: int
    free_bytes: int


def read_card(device: int = 0) -> CardReadings:
    """Read one card by the number torch gives it.

    Raises:
        VirtualCardError: no virtual card is loaded in this process.
    """
    library = state_library()
    device_bytes, managed_bytes, pinned_bytes = (
        Taken(library.card_used_bytes(device, kind), library.card_peak_bytes(device, kind))
        for kind in (_DEVICE, _MANAGED, _PINNED)
    )
    return CardReadings(
        device=device_bytes,
        managed=managed_bytes,
        pinned=pinned_bytes,
        context_bytes=library.card_context_bytes(device),
        free_bytes=library.card_free_bytes(device),
    )


def reset_peaks() -> None:
    """Let every peak start again at what is taken now."""
    state_library().card_reset_peaks()


def last_refusal() -> str:
    """The last sentence with which a call was refused, or nothing."""
    return (state_library().card_refusal() or b"").decode()


def modelled() -> list[str]:
    """What the card answered by a model instead of by knowledge; a measurement should say so."""
    return (state_library().card_modelled() or b"").decode().splitlines()
