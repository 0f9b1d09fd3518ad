"""Loaded by every Python process with this folder on PYTHONPATH: notes each attempt to reach another computer.

An audit hook sees what Python code does, also past a proxy. It shares no code with the library.
"""

import os
import sys

LOCAL = ("127.", "::1", "localhost", "None", "0.0.0.0", "::")
FIELDS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event in FIELDS:
        address = arguments[FIELDS[event]]
        host = str(address[0] if isinstance(address, tuple) else address)
        is_path = host.startswith(("/", "b'"))  # a socket between processes
        if not is_path and not host.startswith(LOCAL[:1]) and host not in LOCAL:
            line = f"{event} {address} by {sys.argv[:3]}\n"
            file = os.open(os.environ["NETWORK_RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(file, line.encode())
            os.close(file)


sys.addaudithook(note)
