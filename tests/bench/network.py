"""A network of a given round-trip time in front of a service on the loopback.

    python -m bench.network HOST:PORT MILLISECONDS

Prints its own port. Every byte is half a round trip on its way, and a connection costs a whole one more, as
TCP's handshake does. Bytes are not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_CHUNK = 1 << 16


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, first: float
) -> None:
    """Pass on what comes, in order, each piece `delay` seconds late, the first one `first` more."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    delivery = asyncio.create_task(deliver())
    try:
        while data := await reader.read(_CHUNK):
            pieces.put_nowait((loop.time() + delay + first, data))
            first = 0.0
    except ConnectionError:
        pass
    pieces.put_nowait((loop.time() + delay, b""))
    with contextlib.suppress(ConnectionError, RuntimeError):
        await delivery


async def _serve(host: str, port: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        half = seconds / 2
        await asyncio.gather(_carry(reader, back, half, seconds), _carry(there, writer, half, 0.0))
        for one in (back, writer):
            one.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    name, _, number = sys.argv[1].rpartition(":")
    asyncio.run(_serve(name, int(number), float(sys.argv[2]) / 1000))
