import subprocess
import sys

import pytest
import tenzo


@pytest.mark.parametrize("name", tenzo.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(tenzo, name).__module__.startswith("tenzo.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        _ = tenzo.Trainr


def test_importing_tenzo_loads_nothing_heavy() -> None:
    code = "import sys, tenzo; sys.exit(bool({'numpy', 'sklearn', 'amaranth', 'matplotlib'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_driver_needs_no_amaranth() -> None:
    code = "import sys, tenzo; tenzo.Trainer; tenzo.Recipe; sys.exit('amaranth' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
