"""Where the house keeps what is no code."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def house_folder(name: str) -> Path:
    """`templates` or `static`: inside the package in a wheel, beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
