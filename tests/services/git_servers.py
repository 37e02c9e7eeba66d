"""Real git servers on loopback: git's own HTTP backend, and OpenSSH.

`prepare.sh sshd` brings the latter. Both serve the bare repositories below one folder, read-only.
"""

from __future__ import annotations

import base64
import getpass
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from services import running

_SECONDS = 60


@dataclass
class HttpGit:
    """A server; `requests` has path and login of each request, `version` limits the protocol.

    The next `failures` requests are answered with 503. While `silent` is set, nothing is answered.
    """

    root: Path
    users: Mapping[str, str] | None = None
    tls: tuple[Path, Path] | None = None
    version: int = 2
    redirect: str | None = None
    failures: int = 0
    silent: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def http_git(
    root: Path, *, users: Mapping[str, str] | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[HttpGit]:
    """`git http-backend` for the repositories in `root`, at an address of 127.0.0.1."""
    settings = HttpGit(root, users, tls)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self._body()
            login = self.headers.get("Authorization")
            settings.requests.append((self.path, login))
            while settings.silent.is_set():
                time.sleep(0.02)
            if settings.failures:
                settings.failures -= 1
                self.give(503, {}, b"")
            elif settings.redirect is not None:
                self.give(302, {"Location": settings.redirect + self.path}, b"")
            elif not _allowed(settings.users, login):
                self.give(401, {"WWW-Authenticate": 'Basic realm="tests"'}, b"no\n")
            else:
                self.give(*_backend(settings, self, body))

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def give(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes away in the middle is part of some tests."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    settings.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield settings
    finally:
        settings.silent.clear()
        server.shutdown()
        thread.join()
        server.server_close()


def _allowed(users: Mapping[str, str] | None, login: str | None) -> bool:
    if users is None:
        return True
    if login is None or not login.startswith("Basic "):
        return False
    user, _, word = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")
    return users.get(user) == word


def _backend(
    settings: HttpGit, request: BaseHTTPRequestHandler, body: bytes
) -> tuple[int, dict[str, str], bytes]:
    path, _, query = request.path.partition("?")
    variables = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(settings.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
    }
    if encoding := request.headers.get("Content-Encoding"):
        variables["HTTP_CONTENT_ENCODING"] = encoding
    if settings.version == 2 and (wanted := request.headers.get("Git-Protocol")):
        variables["GIT_PROTOCOL"] = wanted
    said = subprocess.run(
        ["git", "http-backend"], input=body, env=variables, capture_output=True, check=False, timeout=_SECONDS
    ).stdout
    head, _, content = said.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    return status, headers, content


def certificate(folder: Path) -> tuple[Path, tuple[Path, Path]]:
    """The certificate of an authority of our own, and for 127.0.0.1 a certificate and its key."""
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    made, key, request = folder / "server.pem", folder / "server.key", folder / "server.csr"
    new = "openssl req -newkey rsa:2048 -nodes -days 2"
    sign = f"openssl x509 -req -days 2 -set_serial 2 -CA {authority} -CAkey {authority_key}"
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        f"{new} -x509 -subj /CN=tests -keyout {authority_key} -out {authority}",
        f"openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout {key} -out {request}",
        f"{sign} -in {request} -extfile {folder / 'extensions'} -out {made}",
    ):
        subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=_SECONDS)
    return authority, (made, key)


@dataclass(frozen=True)
class SshGit:
    """A running sshd: whoever has `key` may log in as `user`; `known_hosts` has the server's key."""

    user: str
    port: int
    key: str
    known_hosts: str

    def url(self, path: Path) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{path}"


@contextmanager
def ssh_git(folder: Path) -> Iterator[SshGit]:
    """OpenSSH's sshd with one key of the host and one of a client."""
    program = running.tool("sshd")
    for name in ("host", "client"):
        command = [running.tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shutil.copyfile(folder / "client.pub", folder / "authorized")
    (folder / "sshd_config").write_text(f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder / "host"}
AuthorizedKeysFile {folder / "authorized"}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
""")
    variables = running.environment()
    libraries = sorted(Path(program).resolve().parents[2].glob("**/libwrap.so*"))
    if libraries and Path(program).resolve().parents[2] != Path("/"):
        variables["LD_LIBRARY_PATH"] = str(libraries[0].parent)
    command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
    if os.geteuid() == 0:
        command = _as_root(folder, command)
    with running.process(
        command,
        ready=r"Server listening on 127\.0\.0\.1",
        log=folder / "sshd.log",
        variables=variables,
        seconds=20,
    ):
        public = (folder / "host.pub").read_text().split()[:2]
        known = f"[127.0.0.1]:{port} {' '.join(public)}\n"
        yield SshGit(getpass.getuser(), port, (folder / "client").read_text(), known)


def _as_root(folder: Path, command: list[str]) -> list[str]:
    """In a mount namespace of its own, with the account and the folder that the package would make."""
    accounts = Path("/etc/passwd").read_text()
    if not re.search("^sshd:", accounts, re.MULTILINE):
        accounts += "sshd:x:65532:65534::/run/sshd:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(accounts)
    script = (
        'mount --bind "$1" /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd && shift && exec "$@"'
    )
    return [
        *(running.tool("unshare"), "--mount", "sh", "-c", script, "sh"),
        *(str(folder / "passwd"), *command),
    ]
