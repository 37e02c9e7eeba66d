"""Time-outs, retries and what is said of failures: `registry/http.py` against a registry that fails."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from fakes.registry import FakeRegistry, Fault
from fakes.transport import checked_transport
from secure_build import stopping
from secure_build.errors import ServiceError, StoppedError
from secure_build.registry import http
from secure_build.registry.http import InterruptedTransferError, Transport, redacted


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in seconds; none of them takes any time."""
    made: list[float] = []
    monkeypatch.setattr(stopping, "pause", made.append)
    return made


def status(transport: Transport, url: str, method: str = "GET") -> int:
    with closing(transport.request(method, url)) as answer:
        return answer.status


@pytest.mark.parametrize("temporary", [408, 429, 500, 502, 503, 504])
def test_hardening_02_temporary_statuses_are_tried_again(
    registry: FakeRegistry, transport: Transport, pauses: list[float], temporary: int
) -> None:
    registry.faults.append(Fault("GET", status=temporary, times=2))
    assert status(transport, f"{registry.url}/v2/") == 200
    assert [request.status for request in registry.requests] == [temporary, temporary, 200]
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize("final", [400, 401, 403, 404, 405, 409, 410, 501])
def test_other_statuses_are_answers(
    registry: FakeRegistry, transport: Transport, pauses: list[float], final: int
) -> None:
    registry.faults.append(Fault("GET", status=final))
    assert status(transport, f"{registry.url}/v2/") == final
    assert pauses == []
    assert len(registry.requests) == 1


def test_hardening_02_trying_again_has_an_end(
    registry: FakeRegistry, transport: Transport, pauses: list[float]
) -> None:
    registry.faults.append(Fault("GET", status=503, times=-1))
    assert status(transport, f"{registry.url}/v2/") == 503
    assert len(registry.requests) == 4
    assert pauses == [0.5, 1.0, 2.0]


def test_a_request_can_forgo_further_attempts(registry: FakeRegistry, transport: Transport) -> None:
    registry.faults.append(Fault("GET", status=503))
    with closing(transport.request("GET", f"{registry.url}/v2/", retry=False)) as answer:
        assert answer.status == 503


def test_hardening_01_retry_after_in_seconds(
    registry: FakeRegistry, transport: Transport, pauses: list[float]
) -> None:
    registry.faults.append(Fault("GET", status=429, headers={"Retry-After": "7"}))
    assert status(transport, f"{registry.url}/v2/") == 200
    assert pauses == [7.0]


def test_hardening_01_retry_after_as_a_date(
    registry: FakeRegistry, transport: Transport, pauses: list[float]
) -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    registry.faults.append(Fault("GET", status=429, headers={"Retry-After": date}))
    assert status(transport, f"{registry.url}/v2/") == 200
    assert len(pauses) == 1
    assert 1 < pauses[0] <= 30


@pytest.mark.parametrize(
    "value", ["0", "-5", "soon", "", "Mon, 99 Foo 2026 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "1e3"]
)
def test_hardening_01_retry_after_that_means_nothing_is_passed_over(
    registry: FakeRegistry, transport: Transport, pauses: list[float], value: str
) -> None:
    registry.faults.append(Fault("GET", status=429, headers={"Retry-After": value}))
    assert status(transport, f"{registry.url}/v2/") == 200
    assert pauses == [0.5]


@pytest.mark.parametrize("value", ["61", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_hardening_01_retry_after_that_is_absurd_ends_the_trying(
    registry: FakeRegistry, transport: Transport, pauses: list[float], value: str
) -> None:
    registry.faults.append(Fault("GET", status=429, headers={"Retry-After": value}, times=-1))
    assert status(transport, f"{registry.url}/v2/") == 429
    assert pauses == []
    assert len(registry.requests) == 1


def test_hardening_01_nothing_is_tried_again_after_the_deadline(
    registry: FakeRegistry, pauses: list[float]
) -> None:
    registry.faults.append(Fault("GET", status=429, headers={"Retry-After": "30"}, times=-1))
    with checked_transport(deadline_seconds=20) as transport:
        assert status(transport, f"{registry.url}/v2/") == 429
    registry.faults[:] = [Fault("GET", drop="status", times=-1)]
    with (
        checked_transport(deadline_seconds=0.1) as transport,
        pytest.raises(InterruptedTransferError, match="got no answer"),
    ):
        transport.request("GET", f"{registry.url}/v2/")
    assert pauses == []


@pytest.mark.parametrize("point", ["status", "headers"])
def test_hardening_03_a_dropped_connection_is_tried_again(
    registry: FakeRegistry, transport: Transport, pauses: list[float], point: Any
) -> None:
    registry.faults.append(Fault("GET", drop=point, times=2))
    assert status(transport, f"{registry.url}/v2/") == 200
    assert len(registry.requests) == 3


@pytest.mark.parametrize("point", ["status", "headers"])
def test_hardening_03_a_registry_that_always_hangs_up_is_named(
    registry: FakeRegistry, transport: Transport, point: Any
) -> None:
    registry.faults.append(Fault("GET", drop=point, times=-1))
    with pytest.raises(ServiceError, match=f"^GET {registry.url}/v2/ got no answer: ") as raised:
        transport.request("GET", f"{registry.url}/v2/")
    assert raised.value.exit_code == 4
    assert len(registry.requests) == 4


@pytest.mark.parametrize("point", ["status", "headers"])
def test_hardening_04_a_registry_that_stalls_is_given_up(registry: FakeRegistry, point: Any) -> None:
    registry.faults.append(Fault("GET", stall=point, times=-1))
    with (
        checked_transport(read_seconds=0.05) as transport,
        pytest.raises(InterruptedTransferError, match=r"got no answer: timed out$"),
    ):
        transport.request("GET", f"{registry.url}/v2/")
    assert len(registry.requests) == 4


def test_hardening_04_a_body_that_stalls_is_given_up(registry: FakeRegistry) -> None:
    registry.faults.append(Fault("GET", stall="body", body=b"x" * 100))
    with checked_transport(read_seconds=0.05) as transport:
        answer = transport.request("GET", f"{registry.url}/v2/")
        with pytest.raises(InterruptedTransferError, match="broke off: timed out"):
            answer.body(1000)


def test_hardening_03_a_body_that_breaks_off_is_noticed(registry: FakeRegistry, transport: Transport) -> None:
    registry.faults.append(Fault("GET", drop="body", body=b"x" * 100))
    answer = transport.request("GET", f"{registry.url}/v2/")
    with pytest.raises(InterruptedTransferError, match=f"GET {registry.url}/v2/ broke off"):
        answer.body(1000)


def test_a_body_is_bounded_while_it_is_read(registry: FakeRegistry, transport: Transport) -> None:
    registry.faults.append(Fault("GET", body=b"x" * 1001, times=2))
    with pytest.raises(ServiceError, match="answered with more than 1000 bytes"):
        transport.request("GET", f"{registry.url}/v2/").body(1000)
    assert len(transport.request("GET", f"{registry.url}/v2/").body(1001)) == 1001


def test_a_large_answer_that_nobody_reads_gives_its_connection_up(
    registry: FakeRegistry, transport: Transport
) -> None:
    registry.faults.append(Fault("GET", status=404, body=b"x" * 10_000_000, times=20))
    # More than the pool has connections: a lost one each time would end in waiting for ever.
    for _ in range(20):
        assert status(transport, f"{registry.url}/v2/") == 404


def test_an_unreachable_registry_is_named_with_a_hint(transport: Transport) -> None:
    with FakeRegistry() as registry:
        host = registry.host
    with pytest.raises(ServiceError, match=f"^cannot reach {host}: .*[Rr]efused") as raised:
        transport.request("GET", f"http://{host}/v2/")
    assert raised.value.exit_code == 4
    assert raised.value.hint == "check the name of the registry and the network"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://host/", "http://[::1/", "http:///path"])
def test_what_is_no_address_is_refused_at_once(transport: Transport, pauses: list[float], url: str) -> None:
    with pytest.raises(ServiceError, match="is no address"):
        transport.request("GET", url)
    assert pauses == []


@pytest.mark.parametrize("refusal", [401, 413, 429])
def test_hardening_09_an_answer_before_the_end_of_the_body_is_heard(
    registry: FakeRegistry, transport: Transport, refusal: int
) -> None:
    """The answer is told, not the broken pipe of the sending side."""
    registry.faults.append(Fault("PUT", status=refusal, read=1000, times=-1))
    size = 20 << 20
    answer = transport.request(
        "PUT",
        f"{registry.url}/v2/",
        headers={"Content-Length": str(size)},
        body=lambda: iter([b"x" * size]),
        retry=False,
    )
    answer.close()
    assert answer.status == refusal


def test_a_body_is_made_anew_for_each_attempt(registry: FakeRegistry, transport: Transport) -> None:
    registry.faults.append(Fault("POST", status=503, times=2))
    made = []

    def body() -> Iterator[bytes]:
        made.append(True)
        yield b"content"

    transport.request("POST", f"{registry.url}/v2/", headers={"Content-Length": "7"}, body=body).close()
    assert len(made) == 3
    assert [request.received for request in registry.requests] == [7, 7, 7]


def test_sending_stops_when_the_run_is_ending(
    registry: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def body() -> Iterator[bytes]:
        for _ in range(1000):
            sent.append(True)
            if len(sent) == 3:
                monkeypatch.setattr(stopping, "check", stop)
            yield b"x" * 1000

    def stop() -> None:
        raise StoppedError("stop")

    with pytest.raises(StoppedError):
        transport.request("PUT", f"{registry.url}/v2/", headers={"Content-Length": "1000000"}, body=body)
    assert len(sent) == 3


@pytest.mark.parametrize("point", ["status", "headers", "body"])
def test_a_failure_elsewhere_ends_the_wait_for_a_silent_registry(registry: FakeRegistry, point: Any) -> None:
    registry.faults.append(Fault("GET", stall=point, body=b"x"))
    silent = threading.Event()
    ended: list[BaseException] = []

    def ask(transport: Transport) -> None:
        answer = transport.request("GET", f"{registry.url}/v2/")
        silent.set()
        answer.body(1000)

    def work(number: int) -> None:
        if number == 1:
            while not (silent.is_set() if point == "body" else registry.requests):
                time.sleep(0.001)
            raise ServiceError("the reason")
        try:
            ask(patient)
        except BaseException as error:
            ended.append(error)
            raise

    with (
        checked_transport(read_seconds=60) as patient,
        pytest.raises(ServiceError, match="the reason"),
    ):
        stopping.side_by_side(work, range(2), jobs=2)
    assert [type(error) for error in ended] == [StoppedError]


def test_error_documents_are_told(registry: FakeRegistry, transport: Transport) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "no quota"}, {"code": "OTHER"}]}'
    registry.faults.append(Fault("GET", status=403, body=body))
    explained = transport.request("GET", f"{registry.url}/v2/?token=abc").explained("cannot do it")
    assert explained == f"cannot do it: GET {registry.url}/v2/?*** answered 403 (DENIED: no quota; OTHER)"


def test_what_a_registry_tells_stays_in_one_line(registry: FakeRegistry, transport: Transport) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "no\\r\\nhint: run this"}]}'
    registry.faults.append(Fault("GET", status=403, body=body))
    explained = transport.request("GET", f"{registry.url}/v2/").explained("cannot do it")
    assert explained.endswith("answered 403 (DENIED: no hint: run this)")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"errors": 5}',
        b'{"errors": [5]}',
        b"\xff\xfe",
        b"[" * 50_000,
        b"x" * (1 << 20),
    ],
)
def test_other_error_bodies_are_left_out(registry: FakeRegistry, transport: Transport, body: bytes) -> None:
    registry.faults.append(Fault("GET", status=403, body=body))
    explained = transport.request("GET", f"{registry.url}/v2/").explained("cannot do it")
    assert explained == f"cannot do it: GET {registry.url}/v2/ answered 403"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://store.example/a/b?X-Signature=abc", "https://store.example/a/b?***"),
        ("https://user:word@store.example:8443/a#part", "https://store.example:8443/a"),
        ("https://store.example/a", "https://store.example/a"),
        ("http://[::1", "***"),
    ],
)
def test_addresses_are_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_the_default_time_outs_are_bounded() -> None:
    assert (http.CONNECT_SECONDS, http.READ_SECONDS, http.DEADLINE_SECONDS) == (10, 60, 180)
