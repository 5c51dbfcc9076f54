"""Reading a memory's word in the cycle in which it is written."""

from __future__ import annotations

NO_COLLISIONS = {"no_rw_check": 1}
"""Attributes of a memory in which no word that matters is read in the cycle in which it is written.

Without them Yosys builds registers, comparators and multiplexers around a block RAM, so that such a word is the old
one.
"""
