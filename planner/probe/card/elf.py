"""Reads which symbols an ELF file wants and which it offers: the few tables of the format that name them.

Format: the System V gABI, chapters 4 and 5 (sections, symbol table), and the LSB's "Symbol versioning" for the needs.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_SYMTAB, _DYNAMIC, _DYNSYM = 2, 6, 11
_VERSYM, _VERNEED = 0x6FFFFFFF, 0x6FFFFFFE
_NEEDED = 1
_UNDEFINED = 0
_LOCAL = 0


class Symbol(NamedTuple):
    """A symbol with the library and version it is tied to; both are empty where nothing ties it."""

    name: str
    soname: str
    version: str


@dataclass(frozen=True, slots=True)
class Wants:
    """What one binary asks of others: the libraries it is linked to, and its undefined symbols."""

    sonames: tuple[str, ...]
    symbols: tuple[Symbol, ...]


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class _Elf:
    """A 64-bit little-endian file, mapped: torch's largest is half a gigabyte and only its tables are read."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        offset, size, count = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 58)
        self.sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size)) for i in range(count)]

    def of_kind(self, kind: int) -> _Section | None:
        return next((section for section in self.sections if section.kind == kind), None)

    def text(self, strings: _Section, offset: int) -> str:
        start = strings.offset + offset
        return self.data[start : self.data.find(b"\0", start)].decode()

    def body(self, section: _Section) -> bytes:
        return self.data[section.offset : section.offset + section.size]

    def symbols(self, kind: int) -> Iterator[tuple[int, str, bool, bool]]:
        """Number, name, whether defined and whether local, of each named symbol of the table of this kind."""
        table = self.of_kind(kind)
        if table is None:
            return
        strings = self.sections[table.link]
        for number, entry in enumerate(struct.iter_unpack("<IBBHQQ", self.body(table))):
            name, info, _, home, _, _ = entry
            if name:
                yield number, self.text(strings, name), home != _UNDEFINED, info >> 4 == _LOCAL

    def needs(self) -> dict[int, tuple[str, str]]:
        """Library and version by the number that the symbols' versions use."""
        found: dict[int, tuple[str, str]] = {}
        section = self.of_kind(_VERNEED)
        if section is None:
            return found
        strings, at = self.sections[section.link], section.offset
        for _ in range(section.info):
            _, count, file, first, following = struct.unpack_from("<HHIII", self.data, at)
            entry = at + first
            for _ in range(count):
                _, _, number, name, further = struct.unpack_from("<IHHII", self.data, entry)
                found[number & 0x7FFF] = self.text(strings, file), self.text(strings, name)
                entry += further
            at += following
        return found

    def sonames(self) -> tuple[str, ...]:
        section = self.of_kind(_DYNAMIC)
        if section is None:
            return ()
        strings = self.sections[section.link]
        entries = struct.iter_unpack("<QQ", self.body(section))
        return tuple(self.text(strings, value) for tag, value in entries if tag == _NEEDED)


def read_wants(path: Path) -> Wants:
    """What a shared library asks of others.

    Raises:
        ValueError: no 64-bit little-endian ELF file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        elf = _Elf(data)
        needs, versions = elf.needs(), elf.of_kind(_VERSYM)
        numbers = struct.unpack(f"<{versions.size // 2}H", elf.body(versions)) if versions else ()
        symbols = tuple(
            Symbol(name, *needs.get(numbers[number] & 0x7FFF if numbers else 0, ("", "")))
            for number, name, defined, _ in elf.symbols(_DYNSYM)
            if not defined
        )
        return Wants(elf.sonames(), symbols)


def read_defined(path: Path) -> frozenset[str]:
    """The names that an object file or a shared library defines for others."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        elf = _Elf(data)
        kind = _DYNSYM if elf.of_kind(_DYNSYM) else _SYMTAB
        return frozenset(name for _, name, defined, local in elf.symbols(kind) if defined and not local)
