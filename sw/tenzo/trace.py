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
    network: Network,
    config: Config,
    formats: Formats | None,
    device: Device,
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
) -> list[LayerTrace]:
    """Every layer's outputs for the inputs ``x`` [samples, inputs], at most one sample a lane.

    Replaces the weights on the device. Raises ``ValueError`` for more samples than lanes.
    """
    if not 1 <= len(x) <= config.lanes:
        raise ValueError(f"{len(x)} samples cannot be traced at once: 1 to {config.lanes}, one a lane")
    planned = plan(network, config, config.lanes, formats)
    padded = np.zeros((config.lanes, network.inputs))
    padded[: len(x)] = x
    words = planned.input_words(padded)
    device.abort()
    for number, table in enumerate(planned.tables):
        device.write_table(number, *table.entries(config))
    device.write_masters(planned.pack(weights))
    reference = dequantise(words, planned.formats.inputs)
    traces = []
    for number, stage in enumerate(network.stages):
        reference = tt.apply([weights[name] for name in stage.weights if ".core" in name], reference)
        if stage.layer.bias:
            reference = reference + weights[f"{stage.name}.bias"]
        if stage.function is not None:
            reference = stage.function(reference)
        outputs = _layer_outputs(planned, number, device, words)[: len(x)]
        low, high = bounds(config.word)
        traces.append(
            LayerTrace(
                name=stage.name,
                words=outputs,
                values=dequantise(outputs, planned.formats.layers[number].output),
                reference=reference[: len(x)],
                saturated=int(((outputs == low) | (outputs == high)).sum()),
            )
        )
    return traces


def _layer_outputs(planned: Plan, number: int, device: Device, words: np.ndarray) -> np.ndarray:
    """Runs the network up to this layer and reads its outputs before a later layer takes their place."""
    stage = planned.network.stages[number]
    block = planned.forward(0, predict=True, loop_slices=False, loop_passes=False)
    lines = [node for node in block if isinstance(node, Line)]
    last = max(index for index, line in enumerate(lines) if line.note.startswith(f"{stage.name}."))
    copy = Sweep(kind=SweepKind.PERTURB, row=0, count=planned.rows)
    program = Program.build([Line(Batch()), Line(copy), *lines[: last + 1], Line(Halt())], planned.config)
    device.load_program(program.instructions)
    device.send_batch(words, np.zeros(0, dtype=np.int64))
    device.run()
    device.wait()
    # The slices of the last contraction write side by side: the outputs begin where the first of them does.
    first = min(
        line.instruction.o_base
        for line in lines[: last + 1]
        if line.note == lines[last].note and isinstance(line.instruction, Contract)
    )
    return device.read_lanes(first, stage.layer.output_count)
