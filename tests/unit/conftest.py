"""Unit tests are pure: starting a process or leaving the loopback is an error here."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from fakes.registry import FakeRegistry
from fakes.transport import checked_transport
from secure_build.registry.http import Transport


@pytest.fixture(autouse=True)
def no_real_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a unit test started a process")

    connect = socket.socket.connect

    def loopback_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise AssertionError(f"a unit test connected to {address}")
        connect(self, address)

    monkeypatch.setattr(subprocess, "Popen", no_process)
    monkeypatch.setattr(socket.socket, "connect", loopback_only)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def transport() -> Iterator[Transport]:
    with checked_transport() as transport:
        yield transport
