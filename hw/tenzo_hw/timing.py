"""Latencies of the machine's blocks in cycles. The gateware is tested to keep them exactly."""

from __future__ import annotations

from .config import Config

#: Cycles from one issue to the next beyond the words of the next instruction. RUN is an issue at a run's cycle 0.
ISSUE_OVERHEAD = 2


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
    """Cycles that a sweep takes beyond its rows."""
    return 9


def loss_latency(config: Config) -> int:
    """Cycles from the first pipe's last read until a group's loss is summed, and the slot of a last group stored."""
    return 24 + config.lanes - config.loss_lanes


def coefficient_cycles(config: Config, queries: int) -> int:
    """Cycles from issue to the last coefficient."""
    return 4 * queries + 23


def host_read_latency(config: Config) -> int:
    """Cycles after which the host bus returns a word, whatever the space."""
    return config.lanes + 12


def lane_read_latency(config: Config) -> int:
    """Cycles after which the engine returns the word at a lane memory address, an address a cycle."""
    return config.lanes + 4


def gather_latency(config: Config) -> int:
    """Cycles that a gather takes beyond its words."""
    return lane_read_latency(config) + 2
