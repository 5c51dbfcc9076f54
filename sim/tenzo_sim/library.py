"""Builds a component and a C++ harness into a shared library, once for each design: a cache of libraries."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tenzo_hw.build.cache import cache_folder

from .toolchain import use_verilator

#: Harnesses: C++ that runs a Verilated design many cycles a call, and beside it the Verilog around that design.
BYTES = Path(__file__).with_name("harness.cpp")
BITS = Path(__file__).with_name("line.cpp")
#: What they share.
SIMULATION = Path(__file__).with_name("simulation.h")
#: Fast simulation of two-state logic: no random initial values, no checks.
VERILATE = (
    *("--cc", "--top-module", "harness"),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
COMPILE = ("-std=c++17", "-fPIC", "-fno-semantic-interposition", "-fvisibility-inlines-hidden", "-DNDEBUG")
#: Verilator's and the compiler's options for long simulations: large functions split for parallel builds.
FAST = ("--output-split", "8000"), ("-O2",)
#: For a netlist, many times the text for a short simulation: few files, since each reads the same large header.
QUICK = ("--output-split", "60000", "--output-split-cfuncs", "2000"), ("-O0",)
#: Verilator's own sources that every model needs.
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
TRACE_RUNTIME = ("verilated_vcd_c.cpp",)


def build_library(verilog: str, harness: Path = BYTES, *, trace: bool = False, quick: bool = False) -> Path:
    """The shared library of a design and its harness, from the cache or built now.

    ``verilog`` holds the module ``machine`` (tenzo_hw.machine) for ``BYTES``, ``shell`` (tenzo_hw.shell) for ``BITS``.
    ``quick``: sooner built, and several times slower.

    Processes may build the same library at once: each builds in a folder of its own and renames the result into place.
    Raises ``RuntimeError`` with the tool's messages when it cannot be built, or when there is no C++ compiler.
    """
    folder = use_verilator()
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C++ compiler {compiler!r}: install g++ (or clang), or name one in CXX")
    further = QUICK if quick else FAST
    verilate = [str(folder / "verilator"), *VERILATE, *further[0]]
    compile_ = [compiler, *COMPILE, *further[1]]
    key = "\n".join(
        [
            verilog,
            *(source.read_text() for source in (SIMULATION, harness, harness.with_suffix(".v"))),
            *verilate[1:],
            *compile_[1:],
            str(trace),
            platform.machine(),
            _run([compiler, "--version"]),
            _run([verilate[0], "--version"]),
        ]
    )
    library = cache_folder() / f"machine-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix="build-") as place:
            built = _build(Path(place), verilog, harness, verilate, compile_, trace)
            os.replace(built, library)
    return library


def _build(place: Path, verilog: str, harness: Path, verilate: list[str], compile_: list[str], trace: bool) -> Path:
    source = place / "design.v"
    source.write_text(verilog)
    flags = ["--trace-vcd"] if trace else []
    _run([*verilate, *flags, "--Mdir", str(place), str(harness.with_suffix(".v")), str(source)])
    include = Path(verilate[0]).parents[1] / "include"
    runtime = [include / name for name in (*RUNTIME, *(TRACE_RUNTIME if trace else ()))]
    # The largest files first: the last one to end decides how long two cores take.
    sources = [*sorted(place.glob("Vharness*.cpp"), key=lambda path: -path.stat().st_size), harness, *runtime]
    define = [f"-DVM_TRACE={int(trace)}", f"-DVM_TRACE_VCD={int(trace)}", *(["-DTENZO_TRACE"] if trace else [])]
    common = [
        *compile_,
        *define,
        f"-I{place}",
        f"-I{SIMULATION.parent}",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]

    def compile_one(path: Path) -> str:
        target = str(place / f"{path.stem}.o")
        _run([*common, "-c", str(path), "-o", target])
        return target

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, sources))
    built = place / "machine.so"
    _run([compile_[0], "-shared", "-o", str(built), *objects, "-pthread"])
    return built


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[:1])} failed:\n{(result.stderr or result.stdout)[-4000:]}")
    return result.stdout
