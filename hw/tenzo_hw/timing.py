"""Latencies of the machine's blocks in cycles. The gateware is tested to keep them exactly."""

from __future__ import annotations

from .config import Config

#: Cycles from one issue to the next beyond the words of the next instruction. RUN is an issue at a run's cycle 0.
ISSUE_OVERHEAD = 2


def epilogue_latency(config: Config) -> int:
    """Cycles from a drained sum to its word."""
    return 8 if config.tables else 4


def result_latency(config: Config) -> int:
    """Cycles from the issue of a tile's last row to the issue of a row that can read the tile's first result."""
    return 6 + epilogue_latency(config)


def capture_latency(config: Config) -> int:
    """Cycles from the issue of a tile's last row until the loss accumulator gets its first result of lane 0."""
    return 6 + epilogue_latency(config)


def sweep_latency(config: Config) -> int:
    """Cycles that a sweep takes beyond its rows."""
    return 9


def loss_latency(config: Config) -> int:
    """Cycles from reading a group's last output until its loss is summed, and the slot of a last group stored."""
    return 22


def coefficient_cycles(config: Config, queries: int) -> int:
    """Cycles from issue to the last coefficient."""
    return 4 * queries + 23


def host_read_latency(config: Config) -> int:
    """Cycles after which the host bus returns a word, whatever the space."""
    return config.lanes + 12
