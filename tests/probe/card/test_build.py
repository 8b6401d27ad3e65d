"""The stand-ins are built from the sources and from what the installed binaries want."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from planner.probe.card.build import build_card, compiler
from planner.probe.card.elf import read_defined, read_wants
from planner.probe.card.refusal import VirtualCardError
from planner.probe.card.symbols import find_stack, read_wanted
from tests.probe.card.programs import ROOT, on_card

SITE = Path(sysconfig.get_path("purelib"))


def test_every_symbol_that_the_binaries_want_is_offered_by_the_library_they_want_it_of() -> None:
    built = {library.name: library for library in build_card().libraries}
    for wanted in read_wanted(find_stack(SITE)):
        offered = read_defined(built[wanted.soname])
        assert {name for name in wanted.names if name not in offered and f"{name}_v2" not in offered} == set()


def test_nothing_of_nvidias_is_needed_to_build_or_to_load() -> None:
    for library in build_card().libraries:
        beside = {item.name for item in library.parent.iterdir()}
        system = {
            "libc.so.6",
            "libm.so.6",
            "libdl.so.2",
            "libpthread.so.0",
            "libstdc++.so.6",
            "libgcc_s.so.1",
            "ld-linux-x86-64.so.2",
        }
        assert set(read_wants(library).sonames) <= beside | system


def test_two_processes_that_build_at_once_end_with_one_card(tmp_path: Path) -> None:
    program = "from pathlib import Path; from planner.probe.card.build import build_card; import sys\n"
    program += "print(build_card(cache=Path(sys.argv[1])).folder)"
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    folders = {process.communicate(timeout=240)[0] for process in both}
    assert len(folders) == 1
    assert [item.name for item in tmp_path.iterdir() if item.is_dir()] == [Path(folders.pop().strip()).name]


@pytest.mark.timeout(900)  # zig compiles its C++ library once for each user, which takes it minutes on a busy machine
def test_zigs_compiler_serves_where_the_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert compiler() == [sys.executable, "-m", "ziglang", "c++"]
    built = build_card(cache=tmp_path)
    seen = on_card(
        tmp_path,
        f"""
        import ctypes
        for library in {[str(library) for library in built.libraries]!r}: ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        insert("l4", limit=4 << 30)
        import torch
        answer |= dict(kept=torch.tensor([1, 2, 3], device="cuda").tolist(), free=torch.cuda.mem_get_info()[1])
        """,
        A_PROCESS_OF_ITS_OWN="1",
        FITPROOF_CARDS="name=none;capability=8.9;total_bytes=1;multiprocessors=1",
    )
    assert seen["kept"] == [1, 2, 3]
    assert seen["free"] == 4 << 30


def test_without_any_compiler_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(VirtualCardError, match="install g\\+\\+ or clang\\+\\+, or pip install ziglang"):
        compiler()


def test_a_torch_without_cuda_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.14.1+cpu'\ncuda: Optional[str] = None\n")
    with pytest.raises(VirtualCardError, match=r"torch 2\.14\.1\+cpu was not built for CUDA"):
        build_card(tmp_path, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VirtualCardError, match="set XDG_CACHE_HOME"):
        build_card(cache=tmp_path / "file")


def test_the_program_prints_the_card_and_what_refuses() -> None:
    command = [sys.executable, "-m", "planner.probe.card", "t4"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "name=Tesla T4\n  capability=7.5" in said
    assert "libcusolver" in said
    assert "cudaStreamBeginCapture" in said
