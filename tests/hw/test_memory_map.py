"""`tenzo info` prints the memories that the gateware really has."""

import re
from collections import Counter

import pytest
from amaranth.back import rtlil
from tenzo.memory_map import memory_map
from tenzo_hw.config import Config, preset
from tenzo_hw.machine import Machine

#: What the gateware calls the memories of the map.
NAMES = {
    "program": "program",
    "masters": "master",
    "momenta": "momentum",
    "effective": "effective",
    "bank": "lane",
    "batch": "batch, 2 halves",
    "targets": "target, 2 halves, in every loss pipe",
    "tables": "table values and slopes",
    "words": "outputs, 2 groups",
    "base": "base of differences",
    "slots": "loss slots",
    "memory": "coefficients",
    "history": "history",
    "payloads": "packets, 2 slots",
}
#: Constants, queues, single words and the loops at hand, inside of blocks.
INSIDE = {"counters", "exp2", "log2", "ring", "outer", "deltas"}


# With turns that are no power of two the memories of masters and momenta have words that no column has.
@pytest.mark.parametrize("config", [preset("tiny"), preset("tiny").replace(columns=6, sweep_turns=3)], ids=str)
def test_map_is_what_the_gateware_has(config: Config) -> None:
    bits: Counter[str] = Counter()
    text = rtlil.convert(Machine(config))
    for module, content in re.findall(r"^module \\(\S+)$(.*?)^end$", text, re.MULTILINE | re.DOTALL):
        for width, size, name in re.findall(r"memory width (\d+) size (\d+) \\(\w+)", content):
            # A block RAM or ROM is a block of its own, and known by its name.
            name = module.split(".")[-1] if name in ("ram", "rom") else name
            name = re.sub(r"^(words|bank|deltas|masters|momenta|effective)_?[awob\d]+$", r"\1", name)
            bits[name] += int(width) * int(size)
    assert bits.keys() == NAMES.keys() | INSIDE
    assert {NAMES[name]: bits[name] for name in NAMES} == {memory.name: memory.bits for memory in memory_map(config)}


def test_map_of_a_serial_machine() -> None:
    config = preset("icebreaker")
    bits: Counter[str] = Counter()
    text = rtlil.convert(Machine(config))
    for module, content in re.findall(r"^module \\(\S+)$(.*?)^end$", text, re.MULTILINE | re.DOTALL):
        for width, size, name in re.findall(r"memory width (\d+) size (\d+) \\(\w+)", content):
            block = module.split(".")[-1] if name == "words" else name
            bits[re.sub(r"\d+$", "", block)] += int(width) * int(size)
    names = {
        "main": "main: program, masters, momenta, lane, losses, coefficients, history",
        "half": "batch and targets, 2 halves",
        "weights": "effective",
        "outcomes": "outputs",
        "payloads": "packets, 2 slots",
    }
    assert {names[name]: bits[name] for name in names} == {memory.name: memory.bits for memory in memory_map(config)}
