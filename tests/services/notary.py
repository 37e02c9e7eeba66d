"""A Notary server with its signer, both from Debian, which keep everything in memory."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services import certificates, running
from services.running import TokenTrust


@dataclass(frozen=True, slots=True)
class NotaryServer:
    """A server that listens on loopback; `authority` issued its certificate, `log` tells its requests."""

    url: str
    authority: Path
    log: Path


@contextmanager
def notary(directory: Path, *, tokens: TokenTrust | None = None) -> Iterator[NotaryServer]:
    """Run both on free ports of 127.0.0.1; without `tokens` the server lets everybody in."""
    directory.mkdir(parents=True, exist_ok=True)
    issuer = certificates.authority(directory)
    certificate, key = certificates.signed(directory, issuer, "localhost", ("127.0.0.1",))
    signer_port, server_port = _free_port(), _free_port()
    tls = {"tls_cert_file": str(certificate.resolve()), "tls_key_file": str(key.resolve())}
    signer = {
        "server": {
            "grpc_addr": f"127.0.0.1:{signer_port}",
            "client_ca_file": str(issuer[0].resolve()),
            **tls,
        },
        "storage": {"backend": "memory"},
        "logging": {"level": "info"},
    }
    server = {
        "server": {"http_addr": f"127.0.0.1:{server_port}", **tls},
        "trust_service": {
            "type": "remote",
            "hostname": "127.0.0.1",
            "port": str(signer_port),
            "key_algorithm": "ecdsa",
            "tls_ca_file": str(issuer[0].resolve()),
            "tls_client_cert": tls["tls_cert_file"],
            "tls_client_key": tls["tls_key_file"],
        },
        "storage": {"backend": "memory"},
        "logging": {"level": "info"},
    }
    if tokens is not None:
        server["auth"] = {
            "type": "token",
            "options": {
                "realm": tokens.realm,
                "service": tokens.service,
                "issuer": tokens.issuer,
                "rootcertbundle": str(tokens.certificate.resolve()),
            },
        }
    log = directory / "server.log"
    with (
        _service("notary-signer", directory / "signer.json", signer, directory / "signer.log"),
        _service("notary-server", directory / "server.json", server, log),
    ):
        yield NotaryServer(f"https://127.0.0.1:{server_port}", issuer[0], log)


@dataclass(frozen=True, slots=True)
class Client:
    """The plain `notary` program with a folder and a config of its own: another person's machine."""

    folder: Path
    passphrase: str = "passphrase of the other client"

    @classmethod
    def at(cls, folder: Path, server: NotaryServer | str, authority: Path, **settings: object) -> Client:
        """A client that trusts on first use, unless `trust_pinning` is among the settings."""
        folder.mkdir(parents=True)
        url = server if isinstance(server, str) else server.url
        config = {
            "trust_dir": str(folder / "trust"),
            "remote_server": {"url": url, "root_ca": str(authority.resolve())},
            **settings,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return cls(folder)

    def try_to(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        roles = ("ROOT", "TARGETS", "SNAPSHOT", "DELEGATION")
        return subprocess.run(
            [running.tool("notary"), "-c", str(self.folder / "config.json"), *arguments],
            env={
                **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME")},
                **{f"NOTARY_{role}_PASSPHRASE": self.passphrase for role in roles},
            },
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def do(self, *arguments: str, answer: str = "") -> str:
        done = self.try_to(*arguments, answer=answer)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def forget(self) -> None:
        """Trust data that was seen, so that the next look is a first one."""
        shutil.rmtree(self.folder / "trust" / "tuf", ignore_errors=True)

    def metadata(self, gun: str) -> Path:
        return self.folder / "trust" / "tuf" / gun / "metadata"

    def key(self, role: str) -> bytes:
        """The only private key of this role, PEM, as the program keeps and exports it."""
        (found,) = [
            path.read_bytes()
            for path in (self.folder / "trust" / "private").iterdir()
            if f"role: {role}\n" in path.read_text()
        ]
        return found


@contextmanager
def _service(name: str, config: Path, settings: dict[str, object], log: Path) -> Iterator[None]:
    config.write_text(json.dumps(settings))
    # variables of this prefix would change the settings
    variables = {k: v for k, v in running.environment().items() if not k.startswith("NOTARY_")}
    address = str(
        settings["server"]["grpc_addr" if name == "notary-signer" else "http_addr"]  # type: ignore[index]
    )
    with running.process(
        [running.tool(name), "-config", str(config)],
        ready="Version",
        log=log,
        variables=variables,
        seconds=20,
    ):
        _wait_for(address)
        yield


def _wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.02)
    raise running.ServiceFailed(f"nothing listens on {address}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
