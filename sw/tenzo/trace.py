"""A look inside: every layer's integer activations on the machine beside those of the network in floating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tenzo_hw.config import Config
from tenzo_hw.isa import Batch, Contract, Halt, Sweep, SweepKind
from tenzo_hw.numbers import bounds

from . import tt
from .device import Device
from .formats import Formats, dequantise
from .network import Network
from .plan import Plan, plan
from .program import Line, Program


@dataclass(frozen=True)
class LayerTrace:
    """One layer's outputs, after its function."""

    name: str
    words: np.ndarray
    """[samples, outputs], as the machine holds them."""
    values: np.ndarray
    """The same as numbers."""
    reference: np.ndarray
    """What floating point gives from the same weights and inputs."""
    saturated: int
    """Words at the end of their range."""

    @property
    def max_error(self) -> float:
        """Largest distance from the reference."""
        return float(np.abs(self.values - self.reference).max())

    @property
    def rms_error(self) -> float:
        """Root mean square of the distance."""
        return float(np.sqrt(((self.values - self.reference) ** 2).mean()))


def trace(
    network: Network, config: Config, formats: Formats | None, device: Device, weights: Mapping[str, np.ndarray], x: np.ndarray
) -> list[LayerTrace]:
    """Every layer's outputs for the inputs ``x`` [samples, inputs], at most one sample a lane.

    Replaces the weights on the device. Raises ``ValueError`` for more samples than lanes.
    """
    if not 1 <= len(x) <= config.lanes:
        raise ValueError(f"{len(x)} samples cannot be traced at once: 1 to {config.lanes}, one a lane")
    layout = plan(network, config, config.lanes, formats)
    padded = np.zeros((config.lanes, network.inputs))
    padded[: len(x)] = x
    words = layout.input_words(padded)
    device.abort()
    for number, table in enumerate(layout.tables):
        device.write_table(number, *table.entries(config))
    device.write_masters(layout.pack(weights))
    reference = dequantise(words, layout.formats.inputs)
    traces = []
    for number, stage in enumerate(network.stages):
        reference = tt.apply([weights[name] for name in stage.weights if ".core" in name], reference)
        if stage.layer.bias:
            reference = reference + weights[f"{stage.name}.bias"]
        if stage.function is not None:
            reference = stage.function(reference)
        outputs = _layer_outputs(layout, number, device, words)[: len(x)]
        low, high = bounds(config.word)
        traces.append(
            LayerTrace(
                name=stage.name,
                words=outputs,
                values=dequantise(outputs, layout.formats.layers[number].output),
                reference=reference[: len(x)],
                saturated=int(((outputs == low) | (outputs == high)).sum()),
            )
        )
    return traces


def _layer_outputs(layout: Plan, number: int, device: Device, words: np.ndarray) -> np.ndarray:
    """Runs the network up to this layer and reads its outputs before a later layer takes their place."""
    stage = layout.network.stages[number]
    block = layout.forward(0, predict=True, loop_slices=False, loop_passes=False)
    lines = [node for node in block if isinstance(node, Line)]
    last = max(index for index, line in enumerate(lines) if line.note.startswith(f"{stage.name}."))
    copy = Sweep(kind=SweepKind.PERTURB, row=0, count=layout.rows)
    program = Program.build([Line(Batch()), Line(copy), *lines[: last + 1], Line(Halt())], layout.config)
    device.load_program(program.instructions)
    device.send_batch(words, np.zeros(0, dtype=np.int64))
    device.run()
    device.wait()
    notes = {move.note for move in layout.layers[number].moves[-1:]}
    first = min(
        line.instruction.o_base
        for line in lines[: last + 1]
        if line.note in notes and isinstance(line.instruction, Contract)
    )
    return device.read_lanes(first, stage.layer.output_count)
