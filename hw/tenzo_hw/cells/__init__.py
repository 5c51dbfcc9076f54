"""Vendor cells behind one thin layer: what Yosys cannot pack by itself, each with an exact generic twin.

A block instantiates ``Multiplier``, ``BlockRam`` and ``Rom``. On an ECP5 they become DSP and block RAM cells with their
own registers (Yosys leaves those unused: 3.9 and 5.8 ns from clock to output instead of 0.7 and 1.0); everywhere else,
the simulators included, they are the generic twin, which Yosys infers. ``Accumulator`` saves LUTs, and ``Copies`` are
registers that Yosys leaves as they are. ``LargeRam``, ``Ram`` and ``MultiplyAccumulate`` are SPRAM, block RAM and DSP
blocks of an iCE40.
"""

from __future__ import annotations

from .accumulator import Accumulator
from .block_ram import BlockRam
from .copies import Copies
from .large_ram import LargeRam
from .multiplier import Multiplier
from .multiply_accumulate import MultiplyAccumulate
from .ram import Ram
from .rom import Rom

__all__ = ["Accumulator", "BlockRam", "Copies", "LargeRam", "Multiplier", "MultiplyAccumulate", "Ram", "Rom"]
