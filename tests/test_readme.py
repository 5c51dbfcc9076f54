"""The README's Python example runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_python_example(capsys) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    score, cycles = capsys.readouterr().out.split()
    assert float(score) > 0.7
    assert int(cycles) > 0
