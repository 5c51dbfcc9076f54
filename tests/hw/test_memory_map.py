"""`tenzo info` prints the memories that the gateware really has."""

import re
from collections import Counter

from amaranth.back import rtlil
from tenzo.memory_map import memory_map
from tenzo_hw.config import preset
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
    "values": "table value",
    "slopes": "table slope",
    "words": "outputs, 2 groups",
    "base": "base of differences",
    "slots": "loss slots",
    "memory": "coefficients",
    "history": "history",
    "payloads": "packets, 2 slots",
}
#: Constants, queues and single words inside of blocks.
INSIDE = {"hello", "exp2", "log2", "ring", "best"}


def test_map_is_what_the_gateware_has() -> None:
    config = preset("tiny")
    bits: Counter[str] = Counter()
    for width, size, name in re.findall(r"memory width (\d+) size (\d+) \\(\w+)", rtlil.convert(Machine(config))):
        bits[re.sub(r"^(words|best|bank)\d+$", r"\1", name)] += int(width) * int(size)
    assert bits.keys() == NAMES.keys() | INSIDE
    assert {NAMES[name]: bits[name] for name in NAMES} == {memory.name: memory.bits for memory in memory_map(config)}
