"""Faults of hosts, each as one answer to a request."""

from __future__ import annotations

import gzip
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from servers.host import Exchange, Fault, Served

HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 156245288\n" % (b"3a" * 32)


def status(code: int, retry_after: str | None = None) -> Fault:
    """Answer with an error status, optionally with Retry-After."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda exchange: exchange.refuse(code, headers)


def retry_at(seconds: float) -> Fault:
    """Answer 429 with a Retry-After that is an HTTP date."""

    def fault(exchange: Exchange) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        exchange.refuse(429, {"Retry-After": format_datetime(moment, usegmt=True)})

    return fault


def truncated(exchange: Exchange) -> None:
    """Send the right Content-Length and half of the body, then close the connection."""
    body = exchange.file.body[exchange.offset :]
    exchange.close_connection = True
    _head(exchange, len(body))
    exchange.body(body[: len(body) // 2])


def truncated_without_length(exchange: Exchange) -> None:
    """Send half of the body without Content-Length: nothing shows that it is incomplete."""
    exchange.head(200, None)
    exchange.body(exchange.file.body[: len(exchange.file.body) // 2])


def truncated_chunked(exchange: Exchange) -> None:
    """Send chunked transfer encoding that ends in the middle of a chunk."""
    exchange.send_response(200)
    exchange.send_header("Transfer-Encoding", "chunked")
    exchange.end_headers()
    half = exchange.file.body[: len(exchange.file.body) // 2]
    exchange.wfile.write(b"%x\r\n" % len(exchange.file.body) + half)
    exchange.close_connection = True


def stalled(fraction: float = 0.5, seconds: float = 5.0) -> Fault:
    """Send a part of the body, then nothing."""

    def fault(exchange: Exchange) -> None:
        body = exchange.file.body[exchange.offset :]
        _head(exchange, len(body))
        exchange.body(body[: int(len(body) * fraction)])
        exchange.wfile.flush()
        exchange.host.closing.wait(seconds)
        exchange.cut()

    return fault


def reset(exchange: Exchange) -> None:
    """Reset the connection in the middle of the body."""
    _head(exchange, len(exchange.file.body) - exchange.offset)
    exchange.body(exchange.file.body[exchange.offset : exchange.offset + 1000])
    time.sleep(0.05)
    exchange.cut()


def instead(body: bytes, content_type: str = "application/octet-stream") -> Fault:
    """Answer 200 with another body."""

    def fault(exchange: Exchange) -> None:
        exchange.head(200, len(body), {"Content-Type": content_type})
        exchange.body(body)

    return fault


html = instead(HTML, "text/html; charset=utf-8")
"""A sign-in page with status 200."""


def flipped_byte(exchange: Exchange) -> None:
    """Send the right size with one wrong bit."""
    body = bytearray(exchange.file.body)
    body[len(body) // 2] ^= 1
    exchange.head(200, len(body))
    exchange.body(bytes(body))


def redirect(location: str, code: int = 302) -> Fault:
    return lambda exchange: exchange.refuse(code, {"Location": location})


def range_ignored(exchange: Exchange) -> None:
    """Send the whole file, whatever was requested."""
    exchange.head(200, len(exchange.file.body), {"ETag": exchange.file.etag or ""})
    exchange.body(exchange.file.body)


def range_wrong(exchange: Exchange) -> None:
    """Answer 206 with another range than the requested one."""
    body = exchange.file.body
    exchange.head(206, len(body) - 1, {"Content-Range": f"bytes 1-{len(body) - 1}/{len(body)}"})
    exchange.body(body[1:])


def range_cut(exchange: Exchange) -> None:
    """Send nothing beyond the middle of the file, whatever the range."""
    body, middle = exchange.file.body, len(exchange.file.body) // 2
    exchange.close_connection = True
    _head(exchange, len(body) - exchange.offset)
    exchange.body(body[exchange.offset : middle])


def range_shifted(exchange: Exchange) -> None:
    """Answer 206 with the requested range in the header, but send as many other bytes."""
    body, offset = exchange.file.body, exchange.offset
    exchange.head(206, len(body) - offset, {"Content-Range": f"bytes {offset}-{len(body) - 1}/{len(body)}"})
    exchange.body(body[: len(body) - offset])


def gzipped(exchange: Exchange) -> None:
    """Send Content-Encoding: gzip, although identity was requested."""
    packed = gzip.compress(exchange.file.body, 1)
    exchange.head(200, len(packed), {"Content-Encoding": "gzip"})
    exchange.body(packed)


def replaced(old: bytes, cut: int) -> Fault:
    """Send a part of an older file under another ETag; the next answer has the new file."""

    def fault(exchange: Exchange) -> None:
        exchange.head(200, len(old), {"ETag": Served(old).etag or ""})
        exchange.body(old[:cut])
        exchange.cut()

    return fault


def endless(exchange: Exchange) -> None:
    """Send a body without length that does not end."""
    exchange.head(200, None)
    while not exchange.host.closing.is_set():
        exchange.body(bytes(1 << 16))


def header(name: str, value: str) -> Fault:
    """Send the requested bytes with one header that is wrong."""

    def fault(exchange: Exchange) -> None:
        body, offset = exchange.file.body, exchange.offset
        headers = {"Content-Range": f"bytes {offset}-{len(body) - 1}/{len(body)}"} if offset else {}
        headers |= {name: value}
        # Without a length of its own, the end of the connection ends the body.
        exchange.head(206 if offset else 200, None, headers)
        exchange.body(body[offset:])

    return fault


def range_overrun(exchange: Exchange) -> None:
    """Send more bytes than the file has."""
    offset = exchange.offset
    headers = {"Content-Range": f"bytes {offset}-{len(exchange.file.body) - 1}/*"} if offset else {}
    exchange.head(206 if offset else 200, None, headers)
    exchange.body(exchange.file.body[offset:] + bytes(1000))


def garbage(exchange: Exchange) -> None:
    """Send bytes that are not HTTP."""
    exchange.wfile.write(bytes(range(256)) * 8)
    exchange.close_connection = True


def many_headers(exchange: Exchange) -> None:
    """Send more headers than the HTTP library reads."""
    exchange.head(200, len(exchange.file.body), {f"X-{n}": "x" for n in range(200)})
    exchange.body(exchange.file.body)


def _head(exchange: Exchange, length: int) -> None:
    whole = len(exchange.file.body)
    headers = {"ETag": exchange.file.etag or ""}
    if exchange.offset:
        headers["Content-Range"] = f"bytes {exchange.offset}-{whole - 1}/{whole}"
    exchange.head(206 if exchange.offset else 200, length, headers)
