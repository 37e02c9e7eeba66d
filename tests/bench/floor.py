"""The floor: the least requests that a piece of work needs, sent over kept-alive connections by a bare loop.

    python -m bench.floor HOST CONNECTIONS < JOBS

JOBS is JSON: a list of jobs, each a list of requests that are made one after the other. A request is
`{"method": …, "path": …}`, with `"kind"` (its media type) and `"file"` where it has a body; `UPLOAD` stores a
blob, in the two requests that every registry takes.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


def main() -> None:
    host, connections = sys.argv[1], int(sys.argv[2])
    listed = json.load(sys.stdin)
    jobs: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
    for job in listed:
        jobs.put(job)

    def work() -> None:
        connection = http.client.HTTPConnection(host)
        while True:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                return
            for request in job:
                _make(connection, **request)

    threads = [threading.Thread(target=work) for _ in range(min(connections, len(listed)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _make(
    connection: http.client.HTTPConnection, method: str, path: str, kind: str = "", file: str = ""
) -> None:
    body = Path(file).read_bytes() if file else None
    if method == "UPLOAD":
        path, _, digest = path.partition("@")
        location = _answer(connection, "POST", f"{path}/blobs/uploads/", None, {}).headers["Location"]
        path = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        method, kind = "PUT", "application/octet-stream"
    _answer(connection, method, path, body, {"Content-Type": kind} if body else {"Accept": ACCEPT})


def _answer(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
) -> http.client.HTTPResponse:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status not in (200, 201, 202):
        print(f"{method} {path}: {answer.status}", file=sys.stderr)
        # The other threads would go on.
        os._exit(1)
    return answer


if __name__ == "__main__":
    main()
