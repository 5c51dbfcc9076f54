"""Builds a board's bitstream with open tools from Python wheels: synthesis, place and route, report, cache."""

from __future__ import annotations

from .bitstream import REPORT, Build, TimingError, build
from .flash import flash
from .project import write_project

__all__ = ["REPORT", "Build", "TimingError", "build", "flash", "write_project"]
