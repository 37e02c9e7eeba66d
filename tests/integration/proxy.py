"""A proxy in front of a registry that takes some requests and gives no answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class StallingProxy:
    """Listens on the loopback; passes everything on, but no answer to requests with `marked` in them."""

    def __init__(self, upstream: str, marked: bytes) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._marked = marked
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.stalled = threading.Event()
        self.open = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.open.set()
        # Closing alone would not wake the thread that waits for the next connection.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                self._connections += [client, server]
                silent = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, silent), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client, silent), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if self._marked in data:
                    silent.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if silent.is_set() and not self.open.is_set():
                    # The registry has taken the whole request: its sender waits for nothing but this.
                    self.stalled.set()
                    self.open.wait()
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
