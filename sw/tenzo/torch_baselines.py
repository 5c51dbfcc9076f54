"""What tenzo is measured beside: the same network in PyTorch, in floating point.

Back-propagation through the same cores; random directions on a dense network of the same sizes; and one incremental
coordinate-wise step, so that the same work is timed on this computer. Needs the ``bench`` extra.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .network import TT, Network, ReLU
from .order import SampleOrder

#: Loss differences over their running mean are clipped to this, as the machine does.
_CLIP = 3.0
# One thread: the figures are those of one core, as the exact model's are.
torch.set_num_threads(1)

#: Samples of a forward that only evaluates.
_EVALUATED = 1000


def dense_form(layer: TT, cores: list[Tensor]) -> Tensor:
    """The matrix [inputs, outputs] of a layer's cores [left, n, m, right]."""
    product = cores[0]
    for core in cores[1:]:
        product = torch.einsum("anmb,bpqc->anpmqc", product, core)
        product = product.reshape(1, product.shape[1] * product.shape[2], -1, product.shape[-1])
    return product.reshape(layer.input_count, layer.output_count)


def _parameters(network: Network, seed: int) -> dict[str, Tensor]:
    weights = network.initial_weights(seed)
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items()}


def _layers(network: Network, weights: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Dense form and bias of every layer."""
    for stage in network.stages:
        cores = [weights[f"{stage.name}.core{core}"] for core in range(len(stage.layer.inputs))]
        bias = weights.get(f"{stage.name}.bias", torch.zeros(stage.layer.output_count))
        yield dense_form(stage.layer, cores), bias


def _forward(network: Network, layers: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    for stage, (matrix, bias) in zip(network.stages, layers, strict=True):
        x = x @ matrix + bias
        x = torch.relu(x) if isinstance(stage.function, ReLU) else x
    return x


def _accuracy(network: Network, layers: list[tuple[Tensor, Tensor]], x: np.ndarray, y: np.ndarray) -> float:
    inputs, right = torch.tensor(x, dtype=torch.float32), 0
    for first in range(0, len(x), _EVALUATED):
        outputs = _forward(network, layers, inputs[first : first + _EVALUATED])
        right += int((outputs.argmax(1).numpy() == y[first : first + _EVALUATED]).sum())
    return right / len(x)


def back_propagation(
    network: Network, data: tuple[np.ndarray, ...], *, batch: int, steps: int, seed: int, rate: float, momentum: int
) -> tuple[float, float]:
    """Test accuracy and seconds a step of gradient descent with the machine's momentum, the rate falling to 0.

    ``data``: inputs and labels for training and for the test. The order of the samples is the machine's.
    """
    x_train, y_train, x_test, y_test = data
    weights = {name: value.requires_grad_() for name, value in _parameters(network, seed).items()}
    momenta = {name: torch.zeros_like(value) for name, value in weights.items()}
    order = SampleOrder(len(x_train), batch, seed)
    start = time.perf_counter()
    for step in range(steps):
        chosen = order.batch(step)
        x = torch.tensor(x_train[chosen], dtype=torch.float32)
        loss = cross_entropy(_forward(network, list(_layers(network, weights)), x), torch.tensor(y_train[chosen]))
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                momenta[name] = momenta[name] * (1 - 2.0**-momentum) + gradient
                weight -= rate * (1 - step / steps) * momenta[name]
    seconds = (time.perf_counter() - start) / steps
    with torch.no_grad():
        return _accuracy(network, list(_layers(network, weights)), x_test, y_test), seconds


def dense_random_directions(
    network: Network,
    data: tuple[np.ndarray, ...],
    *,
    batch: int,
    macs: int,
    queries: int,
    seed: int,
    rate: float,
    mu: float,
) -> tuple[float, int]:
    """Test accuracy and steps of two-sided random directions on dense layers of the same sizes, for as many ``macs``.

    Coefficients are normalised and clipped, and the momentum keeps 7/8, as on the machine.
    """
    x_train, y_train, x_test, y_test = data
    sizes = [(stage.layer.input_count, stage.layer.output_count) for stage in network.stages]
    steps = max(1, macs // (2 * queries * batch * sum(n * m for n, m in sizes)))
    random = torch.Generator().manual_seed(seed)
    flat = torch.cat([torch.cat([_he(n, m, random), torch.zeros(m)]) for n, m in sizes])
    momentum, scale = torch.zeros_like(flat), 0.0
    order = SampleOrder(len(x_train), batch, seed)
    with torch.no_grad():
        for step in range(steps):
            chosen = order.batch(step)
            x, y = torch.tensor(x_train[chosen], dtype=torch.float32), torch.tensor(y_train[chosen])
            states, differences = [], []
            for _ in range(queries):
                states.append(random.get_state())
                signs = _signs(flat, random)
                sides = [
                    float(cross_entropy(_forward(network, _dense(flat + side * mu * signs, sizes), x), y))
                    for side in (1, -1)
                ]
                differences.append(sides[0] - sides[1])
            mean = float(np.abs(differences).mean())
            scale = scale + (mean - scale) / 16 if scale else mean
            after = random.get_state()
            momentum *= 7 / 8
            for state, difference in zip(states, differences, strict=True):
                random.set_state(state)
                momentum += float(np.clip(difference / scale, -_CLIP, _CLIP)) / queries * _signs(flat, random)
            random.set_state(after)
            flat -= rate * (1 - step / steps) * momentum
        return _accuracy(network, _dense(flat, sizes), x_test, y_test), steps


def _he(inputs: int, outputs: int, random: torch.Generator) -> Tensor:
    return torch.randn(inputs * outputs, generator=random) * (2 / inputs) ** 0.5


def _signs(like: Tensor, random: torch.Generator) -> Tensor:
    return torch.randint(0, 2, like.shape, generator=random, dtype=torch.float32) * 2 - 1


def _dense(flat: Tensor, sizes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    layers, first = [], 0
    for n, m in sizes:
        layers.append((flat[first : first + n * m].view(n, m), flat[first + n * m : first + n * m + m]))
        first += (n + 1) * m
    return layers


def incremental_step(network: Network, x: np.ndarray, y: np.ndarray, *, seed: int, mu: float) -> dict[str, np.ndarray]:
    """Slopes of every word by one-sided differences, from the parts of a forward that it changes.

    The network has two layers with a ReLU between them. ``x``: [samples, inputs]; returns arrays shaped as the weights.
    """
    first, last = network.stages
    weights = _parameters(network, seed)
    with torch.no_grad():
        (matrix, bias), (readout, last_bias) = _layers(network, weights)
        inputs, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
        z = inputs @ matrix + bias
        hidden = torch.relu(z)
        outputs = hidden @ readout + last_bias
        base = cross_entropy(outputs, labels)

        def slopes(differences: Tensor) -> Tensor:
            """[samples, entries, outputs] to [entries]."""
            moved = (outputs[:, None] + differences).flatten(0, 1)
            losses = cross_entropy(moved, labels.repeat_interleave(differences.shape[1]), reduction="none")
            return (losses.view(len(labels), -1).mean(0) - base) / mu

        found: dict[str, Tensor] = {}
        unit = torch.eye(network.outputs)
        for stage, source, of in ((first, inputs, readout), (last, hidden, unit)):
            cores = [weights[f"{stage.name}.core{core}"] for core in range(len(stage.layer.inputs))]
            for number, core in enumerate(cores):
                environment = _environment(stage.layer, cores, number, source)
                slope = torch.zeros_like(core)
                for m in range(core.shape[2]):
                    own = _own_outputs(stage.layer, number, m)
                    for n in range(core.shape[1]):
                        moved = mu * environment[:, :, n].flatten(1, 2)
                        if stage is first:
                            moved = torch.relu(z[:, None, own] + moved) - hidden[:, None, own]
                        slope[:, n, m] = slopes(moved @ of[own]).view(core.shape[0], core.shape[3])
                found[f"{stage.name}.core{number}"] = slope
            if stage.layer.bias:
                steps = mu * torch.ones_like(z) if stage is first else None
                if steps is not None:
                    moved = (torch.relu(z + steps) - hidden)[:, :, None] * of
                    found[f"{stage.name}.bias"] = slopes(moved)
                else:
                    found[f"{stage.name}.bias"] = slopes((mu * unit).expand(len(labels), -1, -1))
        return {name: value.numpy() for name, value in found.items()}


def _own_outputs(layer: TT, core: int, m: int) -> Tensor:
    """The outputs whose index at the core's site is m."""
    numbers = torch.arange(layer.output_count).view(layer.outputs)
    return numbers.select(core, m).reshape(-1)


def _environment(layer: TT, cores: list[Tensor], core: int, x: Tensor) -> Tensor:
    """[samples, left, n, right, other outputs]: the input with all cores but one."""
    left = torch.ones(1, 1, 1, 1)
    for other in cores[:core]:
        left = torch.einsum("anmb,bpqc->anpmqc", left, other)
        left = left.reshape(1, left.shape[1] * left.shape[2], -1, left.shape[-1])
    right = torch.ones(1, 1, 1, 1)
    for other in reversed(cores[core + 1 :]):
        right = torch.einsum("anmb,bpqc->anpmqc", other, right)
        right = right.reshape(right.shape[0], right.shape[1] * right.shape[2], -1, 1)
    tensor = x.view(len(x), left.shape[1], layer.inputs[core], right.shape[1])
    tensor = torch.einsum("sinj,ima,bjq->sanbmq", tensor, left[0], right[:, :, :, 0])
    return tensor.flatten(4, 5)
