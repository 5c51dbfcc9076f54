"""The firmware of a serial machine."""

from __future__ import annotations

from functools import lru_cache

from ..config import Config
from .assembly import Assembly, Firmware
from .coefficient_firmware import write_coefficient
from .contract_firmware import write_contract
from .loss_firmware import write_loss, write_loss_setup
from .sequencer_firmware import words_check, write_runs, write_steering
from .sweep_firmware import write_sweep


@lru_cache
def firmware(config: Config) -> Firmware:
    """What the processor of a machine does from power-on on."""
    a = Assembly()
    words = words_check(a, config)
    write_runs(a, config)
    write_steering(a, config, words)
    write_contract(a, config, words)
    write_sweep(a, config, words)
    write_loss_setup(a, config, words)
    write_loss(a, config)
    write_coefficient(a, config, words)
    return a.assembled()
