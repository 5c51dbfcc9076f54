"""Networks as users describe them: tensor-train and dense layers, functions between them, and a loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from . import tt

LOSSES = ("cross_entropy", "squared_error")


class Function:
    """A function of every output of the layer before."""

    KIND: ClassVar[str]
    GAIN: ClassVar[float] = 1.0
    """Variance of the weights before it, relative to 1 / inputs."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function's value at every element."""
        raise NotImplementedError


@dataclass(frozen=True)
class ReLU(Function):
    """max(x, 0)."""

    KIND = "relu"
    GAIN = 2.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function's value at every element."""
        return np.maximum(x, 0.0)


@dataclass(frozen=True)
class Tanh(Function):
    """Hyperbolic tangent."""

    KIND = "tanh"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function's value at every element."""
        return np.tanh(x)


@dataclass(frozen=True)
class Sine(Function):
    """sin(x)."""

    KIND = "sine"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function's value at every element."""
        return np.sin(x)


@dataclass(frozen=True)
class Sigmoid(Function):
    """1 / (1 + exp(-x))."""

    KIND = "sigmoid"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function's value at every element."""
        return 0.5 * (1.0 + np.tanh(0.5 * x))


FUNCTIONS: dict[str, type[Function]] = {kind.KIND: kind for kind in (ReLU, Tanh, Sine, Sigmoid)}


@dataclass(frozen=True, init=False)
class TT:
    """A tensor-train layer: inputs and outputs folded to several sizes, one core a pair of them.

    ``rank`` is that of all bonds, lowered where a bond cannot use it; ``ranks`` gives every bond's own. Raises
    ``ValueError`` when the folds do not pair up or a rank is out of range.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ranks: tuple[int, ...]
    bias: bool

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        rank: int | None = None,
        *,
        ranks: Sequence[int] | None = None,
        bias: bool = True,
    ) -> None:
        inputs, outputs = tuple(inputs), tuple(outputs)
        if not inputs or len(inputs) != len(outputs):
            raise ValueError(
                f"a TT layer of inputs {inputs} and outputs {outputs} is not possible: give both the same number of "
                f"sizes (1 where there is nothing to fold), as in inputs=(8, 8), outputs=(1, 10)"
            )
        for name, sizes in (("inputs", inputs), ("outputs", outputs)):
            if any(not _is_count(size) for size in sizes):
                raise ValueError(f"{name}={sizes} is not possible: every size is a whole number of 1 or more")
        limits = tt.bond_limits(inputs, outputs)
        if (rank is None) == (ranks is None) and limits:
            raise ValueError("give a TT layer either rank (one for all bonds) or ranks (one for each bond)")
        if rank is not None and not _is_count(rank):
            raise ValueError(f"rank={rank} is not possible: a whole number of 1 or more")
        chosen = tuple(ranks) if ranks is not None else tuple(min(rank or 1, limit) for limit in limits)
        if len(chosen) != len(limits):
            raise ValueError(f"ranks={chosen} are not possible: {len(inputs)} cores have {len(limits)} bonds")
        for bond, (value, limit) in enumerate(zip(chosen, limits, strict=True)):
            if not _is_count(value) or value > limit:
                raise ValueError(
                    f"ranks={chosen} are not possible: bond {bond} between cores {bond} and {bond + 1} can have 1 to "
                    f"{limit}, at most {limits} for these folds"
                )
        for name, value in (("inputs", inputs), ("outputs", outputs), ("ranks", chosen), ("bias", bool(bias))):
            object.__setattr__(self, name, value)

    @property
    def input_count(self) -> int:
        """Number of inputs."""
        return math.prod(self.inputs)

    @property
    def output_count(self) -> int:
        """Number of outputs."""
        return math.prod(self.outputs)

    @property
    def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shape (r_{k-1}, n_k, m_k, r_k) of every core."""
        return tt.core_shapes(self.inputs, self.outputs, self.ranks)

    @property
    def parameters(self) -> int:
        """Trainable words of cores and bias."""
        return tt.parameters(self.inputs, self.outputs, self.ranks) + self.bias * self.output_count

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain values."""
        document = {"kind": "tt", "inputs": list(self.inputs), "outputs": list(self.outputs), "ranks": list(self.ranks)}
        return document | {"bias": self.bias}


class Dense(TT):
    """A layer with a full weight matrix: a tensor train of one core."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__((inputs,), (outputs,), bias=bias)

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain values."""
        return {"kind": "dense", "inputs": self.input_count, "outputs": self.output_count, "bias": self.bias}


@dataclass(frozen=True)
class Stage:
    """A layer and the function after it; None leaves its outputs as they are."""

    name: str
    layer: TT
    function: Function | None

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the layer's weights: ``layer0.core0``, ..., ``layer0.bias``."""
        shapes: dict[str, tuple[int, ...]] = {
            f"{self.name}.core{k}": shape for k, shape in enumerate(self.layer.core_shapes)
        }
        return shapes | ({f"{self.name}.bias": (self.layer.output_count,)} if self.layer.bias else {})


@dataclass(frozen=True)
class Network:
    """Layers and the functions after them, in order, and the loss that training lowers.

    ``loss`` is ``"cross_entropy"`` (labels are output numbers) or ``"squared_error"`` (targets are output values).
    Raises ``ValueError`` when consecutive layers do not match.
    """

    layers: Sequence[TT | Function]
    loss: str = "cross_entropy"
    stages: tuple[Stage, ...] = field(init=False, repr=False, compare=False)
    """The layers with the functions after them, named ``layer0``, ``layer1``, ..."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r} is not possible: {' or '.join(LOSSES)}")
        stages: list[Stage] = []
        for index, item in enumerate(self.layers):
            if isinstance(item, TT):
                if stages and stages[-1].layer.output_count != item.input_count:
                    raise ValueError(
                        f"layer{len(stages)} takes {item.input_count} inputs {item.inputs}, but "
                        f"{stages[-1].name} before it has {stages[-1].layer.output_count} outputs"
                    )
                stages.append(Stage(f"layer{len(stages)}", item, None))
            elif not isinstance(item, Function):
                kinds = ", ".join(["TT", "Dense", *(kind.__name__ for kind in FUNCTIONS.values())])
                raise ValueError(f"layers[{index}] is {item!r}; there are {kinds}")
            elif not stages or stages[-1].function is not None:
                raise ValueError(
                    f"layers[{index}] is {item!r}: a function follows a layer, and a layer has one at most"
                )
            else:
                stages[-1] = Stage(stages[-1].name, stages[-1].layer, item)
        if not stages:
            raise ValueError("a network has at least one layer, as in Network([Dense(64, 10)])")
        object.__setattr__(self, "stages", tuple(stages))

    @property
    def inputs(self) -> int:
        """Number of inputs of a sample."""
        return self.stages[0].layer.input_count

    @property
    def outputs(self) -> int:
        """Number of outputs of a sample."""
        return self.stages[-1].layer.output_count

    @property
    def parameters(self) -> int:
        """Trainable words."""
        return sum(stage.layer.parameters for stage in self.stages)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all weights."""
        return {name: shape for stage in self.stages for name, shape in stage.weights.items()}

    def check_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Raises ``ValueError`` when a weight is missing, unknown, of another shape or not finite."""
        shapes = self.weights
        if weights.keys() != shapes.keys():
            missing, unknown = shapes.keys() - weights.keys(), weights.keys() - shapes.keys()
            raise ValueError(
                f"the weights are not this network's: {sorted(missing)} are missing, {sorted(unknown)} unknown"
            )
        for name, shape in shapes.items():
            if weights[name].shape != shape:
                raise ValueError(f"{name} has shape {weights[name].shape} instead of {shape}")
            if not np.isfinite(weights[name]).all():
                raise ValueError(f"{name} holds values that are not finite")

    def forward(self, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        """Outputs [samples, outputs] in floating point, of inputs [samples, inputs]."""
        self.check_weights(weights)
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(f"inputs have shape {x.shape} instead of (samples, {self.inputs})")
        for stage in self.stages:
            x = tt.apply([weights[f"{stage.name}.core{k}"] for k in range(len(stage.layer.inputs))], x)
            if stage.layer.bias:
                x = x + weights[f"{stage.name}.bias"]
            if stage.function is not None:
                x = stage.function(x)
        return x

    def initial_weights(self, seed: int) -> dict[str, np.ndarray]:
        """Random cores and zero biases.

        Every core keeps the scale of what passes through it, so a layer's W has the variance gain / inputs. The gain is
        2 before ReLU (He et al., "Delving deep into rectifiers", 2015), else 1.
        """
        random = np.random.default_rng(seed)
        weights: dict[str, np.ndarray] = {}
        for stage in self.stages:
            gain = stage.function.GAIN if stage.function is not None else 1.0
            shapes = stage.layer.core_shapes
            for k, shape in enumerate(shapes):
                left, n, _, right = shape
                variance = gain ** (1 / len(shapes)) / (n * math.sqrt(left * right))
                weights[f"{stage.name}.core{k}"] = random.normal(0.0, math.sqrt(variance), shape)
            if stage.layer.bias:
                weights[f"{stage.name}.bias"] = np.zeros(stage.layer.output_count)
        return weights

    def to_dict(self) -> dict[str, Any]:
        """The network as plain values, as recipes hold it."""
        layers = [item.to_dict() if isinstance(item, TT) else {"kind": item.KIND} for item in self.layers]
        return {"loss": self.loss, "layers": layers}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Network:
        """The network of ``to_dict``. Raises ``ValueError`` that names the layer when a value is missing or unknown."""
        unknown = document.keys() - {"loss", "layers"}
        if unknown or "layers" not in document:
            raise ValueError(f"a network has layers and a loss; {sorted(unknown) or 'no layers'} given")
        if not isinstance(document["layers"], Sequence) or isinstance(document["layers"], str):
            raise ValueError(f"layers={document['layers']!r} is not possible: a list of tables, each with its kind")
        layers = [_layer(index, item) for index, item in enumerate(document["layers"])]
        return cls(layers, document.get("loss", "cross_entropy"))


_LAYERS: dict[str, Callable[..., TT | Function]] = {"tt": TT, "dense": Dense, **FUNCTIONS}


def _layer(index: int, document: Mapping[str, Any]) -> TT | Function:
    if not isinstance(document, Mapping):
        raise ValueError(f'layers[{index}] is {document!r}, not a table such as {{ kind = "relu" }}')
    values = dict(document)
    kind = values.pop("kind", None)
    if kind not in _LAYERS:
        raise ValueError(f"layers[{index}] has kind {kind!r}; there are {', '.join(_LAYERS)}")
    known = inspect.signature(_LAYERS[kind]).parameters
    unknown = values.keys() - known.keys()
    if unknown:
        allowed = ", ".join(known) or "no values"
        raise ValueError(f"layers[{index}], {kind}: there is no {', '.join(sorted(unknown))}; allowed are {allowed}")
    try:
        return _LAYERS[kind](**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layers[{index}], {kind}: {error}") from None


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def fold(size: int, count: int) -> tuple[int, ...]:
    """``size`` as a product of ``count`` sizes that are as equal as possible, the largest at the ends.

    Large sizes at the ends and small ones in the middle give a TT layer the fewest words, as outer cores have one bond.
    """
    if not _is_count(size) or not _is_count(count):
        raise ValueError(f"{size} cannot be folded to {count} sizes: both are whole numbers of 1 or more")

    def products(rest: int, parts: int, largest: int) -> list[tuple[int, ...]]:
        if parts == 1:
            return [(rest,)] if rest <= largest else []
        return [
            (part, *others)
            for part in range(min(rest, largest), 0, -1)
            if rest % part == 0
            for others in products(rest // part, parts - 1, part)
        ]

    sizes = min(products(size, count, size), key=lambda found: (sum(found), found))
    return sizes[::2] + sizes[1::2][::-1]


def largest_rank(inputs: Sequence[int], outputs: Sequence[int], budget: int, bias: bool = True) -> int:
    """The largest ``rank`` of a TT layer of these folds with at most ``budget`` trainable words.

    Raises ``ValueError`` with the smallest possible number when not even rank 1 fits.
    """
    smallest = TT(inputs, outputs, 1, bias=bias).parameters
    if smallest > budget:
        raise ValueError(f"{budget} words are too few: rank 1 of {tuple(inputs)} x {tuple(outputs)} has {smallest}")
    rank = 1
    for larger in range(2, max(tt.bond_limits(inputs, outputs), default=1) + 1):
        if TT(inputs, outputs, larger, bias=bias).parameters > budget:
            break
        rank = larger
    return rank
