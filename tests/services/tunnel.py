"""A proxy that opens tunnels (CONNECT), with or without a login, to names that lead to loopback."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import Self


class TunnelProxy:
    """Listens on a loopback port while the `with` block lasts.

    `names` maps `host:port`, as clients ask for it, to the loopback address behind it. `asked` holds
    each request line and the status of its answer.
    """

    def __init__(self, names: Mapping[str, str], *, login: str | None = None) -> None:
        self._names = dict(names)
        self._login = base64.b64encode(login.encode()).decode() if login else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := client.recv(1 << 16)):
                    return
                head += data
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            status = self._status(method, target, lines)
            self.asked.append((f"{method} {target}", status))
            if status != 200:
                client.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
                client.shutdown(socket.SHUT_WR)
                return
            host, _, port = self._names[target].rpartition(":")
            upstream = socket.create_connection((host, int(port)))
            self._open.append(upstream)
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            threading.Thread(target=_pass_on, args=(upstream, client), daemon=True).start()
            _pass_on(client, upstream)

    def _status(self, method: str, target: str, lines: list[str]) -> int:
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        if self._login and headers.get("proxy-authorization") != f"basic {self._login}".lower():
            return 407
        if method != "CONNECT":
            return 405
        return 200 if target in self._names else 502


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
