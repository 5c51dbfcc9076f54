"""A short soak of the link; ``tenzo bench soak`` is the long one."""

import pytest
from tenzo_sim import soak as soaks
from tenzo_sim.model import ModelTransport
from tenzo_sim.soak import soak

# One worker builds the machine, the others need not.
pytestmark = pytest.mark.xdist_group("verilated")


def test_faults_of_a_byte_stream_are_survived() -> None:
    # A cable is pulled once in 150 faults, a host killed about as often: with fewer there may be none.
    result = soak("bytes", faults=1000, seed=11)
    assert (result.undetected, result.fatal) == (0, [])
    assert result.faults.total() >= 1000
    assert set(result.faults) == {"wrong bits", "lost bytes", "doubled bytes", "pulled cables", "killed hosts"}
    assert result.recovered > 100


@pytest.mark.xdist_group("shell")
def test_faults_of_a_serial_line_are_survived() -> None:
    result = soak("bits", faults=60, seed=11)
    assert (result.undetected, result.fatal) == (0, [])
    assert result.faults.total() >= 60
    assert {"wrong bits", "lost bytes", "doubled bytes"} <= set(result.faults)
    assert result.recovered > 20


def test_a_wrong_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    train = soaks._train

    def damaged(device, *arguments):
        checkpoint = train(device, *arguments)
        checkpoint.momentum[0, 0] += not isinstance(device._connection._transport, ModelTransport)
        return checkpoint

    monkeypatch.setattr(soaks, "_train", damaged)
    monkeypatch.setattr(soaks, "STEPS", 8)
    assert soak("bytes", faults=1, seed=11).undetected == 1


def test_an_error_that_ends_a_training_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soaks, "ATTEMPTS", 1)
    monkeypatch.setattr(soaks, "STEPS", 8)
    result = soak("bytes", faults=20, seed=11)
    assert result.fatal
    assert "DeviceLost" in result.fatal[0]
