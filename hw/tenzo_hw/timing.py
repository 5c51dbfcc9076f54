"""Latencies of the machine's blocks in cycles. The gateware is tested to keep them exactly."""

from __future__ import annotations

from .config import Config
from .protocol import Element

#: Cycles from one issue to the next beyond the words of the next instruction. RUN is an issue at a run's cycle 0.
ISSUE_OVERHEAD = 9
#: Cycles from an instruction's issue to its start in its unit.
START_LATENCY = 2
#: Cycles from a contraction's start to when the words of the next instruction are read.
TAKEN_LATENCY = 2
#: Cycles from when a unit is done to the first issue that can hang on it.
DONE_LATENCY = 2
#: Cycles from one contraction's start to the next one's beyond the words of the next, at least.
CONTRACTION_OVERHEAD = TAKEN_LATENCY + ISSUE_OVERHEAD + START_LATENCY
#: Cycles for which a run that fails waits for units that are being started.
STOP_CYCLES = 6
#: Cycles from a packet's END to its answer's first byte beyond those in which its data are walked through.
DECISION_CYCLES = 31
#: Cycles of a walk through the data beyond one for each byte, or word of SPARSE.
WALK_CYCLES = 5


def epilogue_latency(config: Config) -> int:
    """Cycles from an accumulator at the end of its drain to the finished result, whatever the activation."""
    return 9 if config.tables else 5


def result_latency(config: Config) -> int:
    """Cycles from the issue of a tile's last row to the issue of a row that can read the tile's first result."""
    return epilogue_latency(config) + 10


def capture_latency(config: Config) -> int:
    """Cycles from the issue of a tile's last row to lane 0's first result at the loss accumulator."""
    return epilogue_latency(config) + 14


def sweep_latency(config: Config) -> int:
    """Cycles that a sweep takes beyond those of its rows, ``sweep_turns`` each."""
    return 12


def loss_latency(config: Config) -> int:
    """Cycles from the first pipe's last read until a group's loss is summed, and the slot of a last group stored."""
    return 38 + config.lanes - config.loss_lanes


def coefficient_cycles(config: Config, queries: int) -> int:
    """Cycles from issue to the last coefficient."""
    return 4 * queries + 49


def host_read_latency(config: Config) -> int:
    """Cycles after which the host bus returns a word, whatever the space."""
    return config.lanes + 16


def lane_read_latency(config: Config) -> int:
    """Cycles after which the engine returns the word at a lane memory address, an address a cycle."""
    return config.lanes + 4


def gather_latency(config: Config) -> int:
    """Cycles that a gather takes beyond its words."""
    return lane_read_latency(config) + 8


def write_cycles(element: Element, data_bytes: int, words: int) -> int:
    """Cycles from the END of a WRITE that is carried out to its answer's first byte, if the link has nothing else.

    Data are written a byte a cycle; of SPARSE the bytes are counted first, then the ``words`` are written.
    """
    if element == Element.SPARSE:
        return DECISION_CYCLES + data_bytes + WALK_CYCLES + words + WALK_CYCLES
    return DECISION_CYCLES + data_bytes + WALK_CYCLES
