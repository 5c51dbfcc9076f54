"""Where a small read-only memory goes."""

from __future__ import annotations

from .family import is_ecp5


def rom_attributes(platform: object) -> dict[str, str]:
    """Attributes of a ``Memory`` that is never written, of a few hundred words.

    On an ECP5 it becomes LUTs with a register behind them: its block RAMs are few, and one whose output register Yosys
    leaves out takes 5.8 ns. Elsewhere Yosys chooses.
    """
    return {"rom_style": "logic"} if is_ecp5(platform) else {}
