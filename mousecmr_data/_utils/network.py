"""What may leave this computer: nothing unasked. Telemetry of dependencies is off; offline is a wall."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from functools import cache
from ipaddress import ip_address
from types import ModuleType
from typing import Any

from mousecmr_data._utils.environment import is_offline
from mousecmr_data.errors import DownloadError, MissingDataError, MouseCMRError

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Environment variables by which dependencies are told to send no usage statistics and to make no identifier.

ONNX Runtime (``ORT_…``) sends them from native code, and reads its variable once, when it is imported.
"""
_OUTGOING = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyaddr": 0,
    "socket.gethostbyname": 0,
}
"""Audit events of Python that reach other computers, and which of their arguments is the address."""


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


def check_online(what: str, error: type[MouseCMRError] = MissingDataError) -> None:
    """Raise ``error`` if ``MOUSECMR_OFFLINE`` forbids the network traffic that ``what`` needs."""
    if is_offline():
        raise error(f"{what} needs a network, which MOUSECMR_OFFLINE forbids.", None, "unset MOUSECMR_OFFLINE")


def enforce_offline() -> None:
    """Let no Python code of this process reach another computer while ``MOUSECMR_OFFLINE`` is set.

    Connections, datagrams and name look-ups raise DownloadError, which is an OSError; local addresses stay open.
    Native code does not pass through here: its telemetry is off (:data:`TELEMETRY_OFF`), and the functions that
    would make it connect call :func:`check_online` first.
    """
    if is_offline():
        _add_wall()


@cache  # an audit hook cannot be removed: one is enough
def _add_wall() -> None:
    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _OUTGOING or not is_offline():
            return
        address = arguments[_OUTGOING[event]]
        if getattr(arguments[0], "family", socket.AF_INET) not in (socket.AF_INET, socket.AF_INET6):
            return  # between processes, not computers
        host = address[0] if isinstance(address, tuple) else address
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "localhost")
        if not is_local(text):
            raise DownloadError(f"No connection to {text}: MOUSECMR_OFFLINE is set.", None, "unset MOUSECMR_OFFLINE")

    sys.addaudithook(refuse)


def is_local(host: str) -> bool:
    """Return whether ``host`` is this computer's own address, which no other computer can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def bypass_proxy(host: str) -> None:
    """Let requests of this process to ``host`` go through no proxy if it is local: its tokens stay here."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if is_local(host) and host not in known.split(","):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{known},{host}".lstrip(",")
