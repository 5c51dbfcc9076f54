"""Runs a cocotb bench on a component with Verilator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from amaranth.lib import wiring
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from .toolchain import use_verilator
from .verilog import export

#: Verilator's warnings about generated Verilog say nothing of the design.
WARNINGS = ["-Wno-fatal", "-Wno-lint", "-Wno-style"]


def run_bench(
    component: wiring.Component,
    module: str,
    directory: Path,
    *,
    parameters: Mapping[str, object] | None = None,
    cells: str = "",
    seed: int = 0,
) -> None:
    """Builds ``component`` as ``top`` in ``directory`` and runs the cocotb tests of the Python module ``module``.

    ``cells`` is Verilog of the modules that the component has as instances. ``parameters`` reach the bench as JSON in
    the environment variable ``TENZO_BENCH``. Raises ``AssertionError`` when a test fails or none runs. The module must
    be on ``sys.path``, as pytest puts the folder of the test.
    """
    use_verilator()
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "top.v"
    source.write_text(export(component, "top") + cells)
    runner = get_runner("verilator")
    runner.build(sources=[source], hdl_toplevel="top", build_dir=directory, build_args=[*WARNINGS, "-O1"], always=True)
    results = directory / "results.xml"
    # cocotb's runner ends the process when a test fails; the counts below say it better.
    with suppress(SystemExit):
        runner.test(
            hdl_toplevel="top",
            test_module=module,
            build_dir=directory,
            test_dir=directory,
            results_xml=str(results),
            seed=seed,
            extra_env={"TENZO_BENCH": json.dumps(dict(parameters or {}))},
        )
    assert results.exists(), f"the simulation of {module} ended without a result; see the log above (seed {seed})"
    tests, failed = get_results(results)
    assert tests > 0, f"{module} ran no test"
    assert failed == 0, f"{failed} of {tests} tests of {module} failed; see the log above (seed {seed})"
