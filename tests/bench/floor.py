"""The floor: the least requests that a piece of work needs, sent over kept-alive connections by a bare loop.

python -m bench.floor HOST CONNECTIONS METHOD < PATHS
"""

from __future__ import annotations

import http.client
import queue
import sys
import threading

_ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


def main() -> None:
    host, connections, method = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    paths: queue.SimpleQueue[str] = queue.SimpleQueue()
    listed = sys.stdin.read().split()
    for path in listed:
        paths.put(path)

    def work() -> None:
        connection = http.client.HTTPConnection(host)
        while True:
            try:
                path = paths.get_nowait()
            except queue.Empty:
                return
            connection.request(method, path, headers={"Accept": _ACCEPT})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                sys.exit(f"{path}: {answer.status}")

    threads = [threading.Thread(target=work) for _ in range(min(connections, len(listed)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
