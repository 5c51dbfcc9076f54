"""Which vendor's cells a platform has."""

from __future__ import annotations


def is_ecp5(platform: object) -> bool:
    """Whether ``platform`` is an ECP5: amaranth's Lattice platforms say so, a simulator (None) does not."""
    return getattr(platform, "family", None) == "ecp5"


def is_ice40(platform: object) -> bool:
    """Whether ``platform`` is an iCE40, as ``is_ecp5`` knows an ECP5; Amaranth writes it with capitals."""
    return str(getattr(platform, "family", None)).lower() == "ice40"
