"""An ECP5's block RAM (Lattice FPGA-TN-02204, sysMEM usage guide), as all memories here use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import ClockSignal, Const, Instance, Value

ADDRESS_BITS = 14
"""Of a port, which count bits: words of more than a bit leave the low ones to others."""
WIDEST = 36
"""Bits of the widest word: port B reads and writes its upper half, or port A the lower one of what port B reads."""
#: Initial contents: rows of so many bits, each parameter's.
_ROWS, _ROW_BITS = 64, 320


def dp16kd(*, bits: int, ports: Mapping[str, Value], contents: Sequence[int] = ()) -> Instance:
    """One cell with words of ``bits`` at both ports, output registers, and both clocks the domain ``sync``.

    ``ports``: those that are connected, by their names; the others are low. ``contents``: its first rows of initial
    bits.
    """
    low, high = Const(0), Const(1)
    given: dict[str, Value] = {}
    for letter in "AB":
        given |= {f"i_AD{letter}{bit}": low for bit in range(ADDRESS_BITS)}
        given |= {f"i_DI{letter}{bit}": low for bit in range(WIDEST // 2)}
        given |= {f"i_CS{letter}{bit}": low for bit in range(3)}
        given |= {f"i_{name}{letter}": low for name in ("WE", "RST")}
        given |= {f"i_{name}{letter}": high for name in ("CE", "OCE")}
        given[f"i_CLK{letter}"] = ClockSignal()
    rows = [*contents, *[0] * (_ROWS - len(contents))]
    return Instance(
        "DP16KD",
        **{f"p_DATA_WIDTH_{letter}": bits for letter in "AB"},
        **{f"p_REGMODE_{letter}": "OUTREG" for letter in "AB"},
        **{f"p_WRITEMODE_{letter}": "NORMAL" for letter in "AB"},
        **{f"p_CSDECODE_{letter}": "0b000" for letter in "AB"},
        **{f"p_INITVAL_{number:02X}": Const(row, _ROW_BITS) for number, row in enumerate(rows)},
        p_RESETMODE="SYNC",
        p_ASYNC_RESET_RELEASE="SYNC",
        p_GSR="AUTO",
        **given | ports,
    )
