import pytest
from tenzo.transport import open_transport
from tenzo_hw.config import preset


@pytest.mark.parametrize("name", ["", "models", "usb:1", "model:huge"])
def test_a_name_that_means_nothing_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"no device|no preset"):
        open_transport(name)


@pytest.mark.parametrize("name", ["serial:", "serial:/dev/ttyUSB0@fast"])
def test_a_serial_name_says_how_it_is_written(name: str) -> None:
    with pytest.raises(ValueError, match="serial:PORT"):
        open_transport(name)


def test_a_port_that_is_not_there_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match=r"/dev/nothing cannot be opened at 3,000,000 baud"):
        open_transport("serial:/dev/nothing")
    with pytest.raises(ConnectionError, match=r"/dev/nothing cannot be opened at 115,200 baud"):
        open_transport("serial:/dev/nothing@115200")


def test_a_preset_must_be_the_machine_that_is_asked_for() -> None:
    with pytest.raises(ValueError, match="another machine"):
        open_transport("model:tiny", preset("small"))


def test_only_the_simulated_gateware_records_a_waveform(tmp_path) -> None:
    with pytest.raises(ValueError, match="no waveform"):
        open_transport("model:tiny", waveform=tmp_path / "wave.vcd")
