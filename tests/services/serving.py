"""What every HTTP server of the tests has in common: it runs on the loopback while a `with` block lasts."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import Self


class Serving:
    """A server in a thread; `host` is where it listens."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self.host = f"127.0.0.1:{server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
