"""The README's Python example and the scripts in examples/ run as they stand, and learn."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def test_python_example(capsys) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    score, cycles = capsys.readouterr().out.split()
    assert float(score) > 0.7
    assert int(cycles) > 0


def test_spirals() -> None:
    assert runpy.run_path(str(ROOT / "examples" / "spirals.py"))["main"]() > 0.95
