"""tenzo: train tensor-train networks with forward passes only, on an FPGA or its exact model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .device import Device
    from .errors import DeviceError, DeviceLost, RequestRefused, RunFailed, WrongDevice
    from .estimators import TTClassifier, TTRegressor
    from .formats import Formats, LayerFormat
    from .network import TT, Dense, Network, ReLU, Sigmoid, Sine, Tanh
    from .plan import Plan
    from .recipe import Recipe
    from .settings import Hybrid, Settings
    from .trainer import Trainer
    from .transport import open_transport

#: Where each public name is: it is imported at its first use, so that a small program does not load everything.
_HOMES = {
    "checkpoint": ("Checkpoint",),
    "device": ("Device",),
    "errors": ("DeviceError", "DeviceLost", "RequestRefused", "RunFailed", "WrongDevice"),
    "estimators": ("TTClassifier", "TTRegressor"),
    "formats": ("Formats", "LayerFormat"),
    "network": ("TT", "Dense", "Network", "ReLU", "Sigmoid", "Sine", "Tanh"),
    "plan": ("Plan",),
    "recipe": ("Recipe",),
    "settings": ("Hybrid", "Settings"),
    "trainer": ("Trainer",),
    "transport": ("open_transport",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "TT",
    "Checkpoint",
    "Dense",
    "Device",
    "DeviceError",
    "DeviceLost",
    "Formats",
    "Hybrid",
    "LayerFormat",
    "Network",
    "Plan",
    "ReLU",
    "Recipe",
    "RequestRefused",
    "RunFailed",
    "Settings",
    "Sigmoid",
    "Sine",
    "TTClassifier",
    "TTRegressor",
    "Tanh",
    "Trainer",
    "WrongDevice",
    "open_transport",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tenzo' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
