"""What can go wrong with a machine. Wrong values given by a person raise ``ValueError`` instead."""

from __future__ import annotations

from tenzo_hw.protocol import Fault


class DeviceError(RuntimeError):
    """The machine cannot do what was asked of it."""


class DeviceLost(DeviceError):
    """The machine does not answer any more."""


class WrongDevice(DeviceError):
    """At the other end is another product, protocol version or configuration."""


class RequestRefused(DeviceError):
    """The machine answered that it does not carry a request out."""


class RunFailed(DeviceError):
    """A run stopped with a fault."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault
