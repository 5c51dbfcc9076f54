"""Which vendor's cells a platform has."""

from __future__ import annotations


def is_ecp5(platform: object) -> bool:
    """Whether ``platform`` is an ECP5: amaranth's Lattice platforms say so, a simulator (None) does not."""
    return getattr(platform, "family", None) == "ecp5"
