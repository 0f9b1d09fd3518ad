"""What may leave this computer: nothing unasked. Telemetry of dependencies is off; offline is a wall."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from types import ModuleType
from typing import Any

TELEMETRY_OFF = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Environment variables by which dependencies are told to send no usage statistics."""


def disable_telemetry() -> None:
    """Tell all dependencies to send no usage statistics; call it before they are imported."""
    os.environ.update(TELEMETRY_OFF)


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which has no switch but a file in the user's home.

    Raises ImportError if OpenVINO is not installed.
    """
    hidden = "openvino_telemetry"
    loaded = sys.modules.get(hidden)
    sys.modules[hidden] = None  # type: ignore[assignment]  # importing it fails: OpenVINO then uses its own stub
    try:
        openvino = importlib.import_module("openvino")
        stub = importlib.import_module("openvino.tools.ovc.telemetry_stub")
    finally:
        if loaded is None:
            del sys.modules[hidden]
        else:
            sys.modules[hidden] = loaded
    for name, module in list(sys.modules.items()):  # imported earlier by somebody else
        if name.startswith("openvino.tools.ovc.") and getattr(getattr(module, "tm", None), "__name__", "") == hidden:
            module.tm = stub  # type: ignore[attr-defined]
    return openvino


def is_local(host: str) -> bool:
    """Return whether ``host`` is this computer's own address, which no other computer can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def block_network() -> None:
    """Let no connection leave this computer from now on, in this process; local addresses stay open."""

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any, *rest: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(str(address[0])):
                raise ConnectionRefusedError(f"MOUSECMR_OFFLINE is set: no connection to {address[0]}")
            return original(self, address, *rest)

        connect.blocks_network = True  # type: ignore[attr-defined]
        return connect

    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)
        if not hasattr(original, "blocks_network"):
            setattr(socket.socket, name, guard(original))
