"""Number formats: where the binary point of every word stands, floats to words and back, and activation tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tenzo_hw.config import Config
from tenzo_hw.numbers import round_shift, saturate

from .network import Network, ReLU


def quantise(values: np.ndarray, fraction: int, bits: int) -> np.ndarray:
    """Words of ``bits`` bits with ``fraction`` fraction bits, int64: rounded half up and saturated.

    Raises ``ValueError`` when a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values are not finite numbers")
    limit = 2.0 ** (bits - 1)
    return np.clip(np.floor(np.ldexp(values, fraction) + 0.5), -limit, limit - 1).astype(np.int64)


def dequantise(words: np.ndarray, fraction: int) -> np.ndarray:
    """The values of words with ``fraction`` fraction bits, float64."""
    return np.ldexp(np.asarray(words, dtype=np.float64), -fraction)


def _check_fractions(**fractions: int) -> None:
    for name, value in fractions.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 31:
            raise ValueError(f"{name}={value!r} is not possible: 0 to 31 fraction bits")


@dataclass(frozen=True, kw_only=True)
class LayerFormat:
    """Fraction bits of a layer's results."""

    inner: int
    """Results between its cores."""
    total: int
    """Results of its last contraction with the bias, before the function."""
    output: int
    """Results of the function. Equal to ``total`` where there is none, or ReLU."""

    def __post_init__(self) -> None:
        _check_fractions(inner=self.inner, total=self.total, output=self.output)


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Fraction bits of all tensors. All weights have the same, so that one sweep perturbs them by the same step."""

    inputs: int
    """Words of the batch memory."""
    weights: int
    """Effective words of cores and biases; masters have ``config.master_extra`` more."""
    layers: tuple[LayerFormat, ...]
    loss: int
    """The network's outputs on their way to the loss, and targets: words of ``config.output_word`` bits."""
    dense: int
    """The dense form of a layer, which coordinate-wise training forms on the machine."""

    def __post_init__(self) -> None:
        _check_fractions(inputs=self.inputs, weights=self.weights, loss=self.loss, dense=self.dense)

    @classmethod
    def default(cls, network: Network, config: Config) -> Formats:
        """Formats that train well for the word size of ``config``.

        Words of 9 bits: 6 of weights, 4 of results; of 18 bits: 13 and 12. Inputs and dense forms reach from -2 to 2.
        What a table function takes reaches from -8 to 8, what it gives from -2 to 2. Outputs have the same reach in the
        lanes and on their way to the loss.
        """
        word = config.word
        weights = word - 3 if word < 12 else min(word - 4, 13)
        results = word - 5 if word < 12 else word - 6
        layers = []
        for stage in network.stages:
            if stage.function is None or isinstance(stage.function, ReLU):
                layers.append(LayerFormat(inner=results, total=results, output=results))
            else:
                layers.append(LayerFormat(inner=results, total=word - 4, output=word - 2))
        # A function gives words: only what comes before it can have more bits, as many as the products have.
        last, inputs = network.stages[-1], config.input_word - 2
        operand = results if len(last.layer.inputs) > 1 else layers[-2].output if len(layers) > 1 else inputs
        finer = min(config.output_word - word, operand + weights - results) if last.function is None else 0
        return cls(
            inputs=inputs,
            weights=weights,
            layers=tuple(layers),
            loss=layers[-1].output + finer,
            dense=word - 2,
        )

    @property
    def output(self) -> int:
        """Fraction bits of the network's outputs."""
        return self.layers[-1].output

    def to_dict(self) -> dict[str, Any]:
        """The formats as plain values, as recipes hold them."""
        layers = [{"inner": layer.inner, "total": layer.total, "output": layer.output} for layer in self.layers]
        return {
            "inputs": self.inputs,
            "weights": self.weights,
            "layers": layers,
            "loss": self.loss,
            "dense": self.dense,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Formats:
        """The formats of ``to_dict``."""
        layers = tuple(LayerFormat(**layer) for layer in document["layers"])
        values = {name: value for name, value in document.items() if name != "layers"}
        return cls(**values, layers=layers)


@dataclass(frozen=True)
class Table:
    """A function for the machine's table memory, between two formats."""

    function: Callable[[np.ndarray], np.ndarray]
    fraction_in: int
    fraction_out: int

    def entries(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Values [2**table_bits] at the starts of the intervals and slopes to the next value."""
        count, word = 1 << config.table_bits, config.word
        starts = (np.arange(count + 1) << (word - config.table_bits)) - (1 << (word - 1))
        ends = quantise(self.function(dequantise(starts, self.fraction_in)), self.fraction_out, word)
        # A step of more than half of all words does not fit a slope: there the function is coarser than its table.
        return ends[:-1], saturate(np.diff(ends), word)

    def look_up(self, words: np.ndarray, config: Config) -> np.ndarray:
        """What the machine makes of these words: linear interpolation in the table, int64."""
        values, slopes = self.entries(config)
        low = config.word - config.table_bits
        offset = words + (1 << (config.word - 1))
        index, rest = offset >> low, offset & ((1 << low) - 1)
        return saturate(values[index] + round_shift(slopes[index] * rest, low), config.word)
