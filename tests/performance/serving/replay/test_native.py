"""Where the compiled kernel comes from, and what is said when it cannot be had."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from budsim.commons.errors import Unavailable
from budsim.performance.serving.replay import native


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Let no test see the library another one loaded."""
    native.library.cache_clear()


def test_a_checkout_compiles_once_into_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call loads the same file and compiles nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.kernel()
    (library,) = (tmp_path / "budsim").iterdir()
    assert library.name == native.library_name(native.source_digest())
    written = library.stat().st_mtime_ns
    native.library.cache_clear()
    native.kernel()
    assert library.stat().st_mtime_ns == written


def test_changed_source_is_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale library is never loaded, because its name does not match."""
    before = native.source_digest()
    for file in native.SOURCES.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tables.h").write_text("/* changed */", encoding="utf-8")
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    assert native.source_digest() != before


def test_without_a_compiler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel, a compiler, or ziglang."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(native, "SOURCES", _copy_of_sources(tmp_path / "replay"))
    with pytest.raises(Unavailable, match="pip install ziglang"):
        native.kernel()


def test_source_that_does_not_compile_is_an_error_with_the_compilers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message holds what the compiler said."""
    sources = _copy_of_sources(tmp_path / "replay")
    (sources / "kernel.c").write_text("int replay(", encoding="utf-8")
    monkeypatch.setattr(native, "SOURCES", sources)
    with pytest.raises(Unavailable, match=r"does not compile.*error"):
        native.compile_kernel(tmp_path / "library.so")


def test_both_sides_agree_on_the_size_of_their_structures(tmp_path: Path) -> None:
    """A field added on one side only would shift all that follow it."""
    source = tmp_path / "sizes.c"
    names = ("Part", "Tables", "Setting", "Requests", "Record")
    sizes = ", ".join(f"sizeof({name})" for name in names)
    source.write_text(
        f'#include "{native.SOURCES}/replica.h"\nconst long sizes[] = {{{sizes}}};\n',
        encoding="utf-8",
    )
    library = tmp_path / "sizes.so"
    native.compile_kernel(library, source)
    found = (ctypes.c_long * len(names)).in_dll(ctypes.CDLL(str(library)), "sizes")
    assert list(found) == [ctypes.sizeof(getattr(native, name)) for name in names]


def _copy_of_sources(folder: Path) -> Path:
    folder.mkdir()
    for file in native.SOURCES.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
