"""What programs that are not ours make of the files for a deployment, and of a compose file's ports."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from secure_build import strict_yaml
from secure_build.contract.deployment import forms, ports
from secure_build.contract.deployment.destinations import Destination
from secure_build.contract.deployment.forms import Form
from secure_build.contract.deployment.needs import Deployment, Size, Volume
from secure_build.contract.deployment.ports import Port
from services import running
from services.needed import need

CORPUS = sorted((Path(__file__).parents[1] / "corpus" / "compose").iterdir())
CONTRACT = 'workload: |\n  type: "workload" # é 日 𝄞 ${A} %{if} $${x} \\n\t\\\nenv: |\n  a: b\n\n  c: d'
READ = Deployment(
    (Port("service `a`", "tcp", 80, 90), Port("service `b`", "udp", 53, 53)),
    (Volume("data", "/data", "ext4", volume_name="disk"),),
    (Destination("logs", "a.example", 443),),
    Size(1, 4),
    ("the `rest`",),
)
WRITTEN = """
3000 8000:8000 9090-9091:8080-8081 127.0.0.1:8001:8001 127.0.0.1:5000-5010:5000-5010 6060:6060/udp
[::1]:6001:6001 127.0.0.1::5005 8000-9000:80 :8080 0:80 80:80/TCP 80:80/sctp 0.0.0.0:1:1 localhost:80:80
99999:80 90-80:80 80:80/foo 80: ::1:80:80 a:80 80:b -1:80 1:2:3:4 [::]:80:80 65535:65535
""".split()


def written(folder: Path, form: Form) -> Path:
    for path, content in forms.files(CONTRACT, form, READ).items():
        target = folder / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    return folder


def published(file: Path, *options: str) -> list[dict[str, Any]] | None:
    """The ports of all services as docker compose reads them; None for a file that it refuses."""
    command = [running.tool("docker-compose"), "--file", str(file), "--project-name", "t", "--profile", "*"]
    command += ["config", "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    services = json.loads(done.stdout)["services"].values()
    return [port for service in services for port in service.get("ports") or []]


def numbers(found: list[dict[str, Any]]) -> list[tuple[int, str, bool]]:
    """Each host port that is bound, with protocol and whether it is on loopback."""
    bound = []
    for port in found:
        first, _, last = str(port.get("published") or 0).partition("-")
        loopback = port.get("host_ip", "") in ("127.0.0.1", "::1")
        every = range(int(first), int(last or first) + 1)
        bound += [(number, port["protocol"], loopback) for number in every if number]
    return sorted(bound)


def ours(content: bytes) -> tuple[list[tuple[int, str, bool]], list[str]]:
    found = list(ports.of_compose(strict_yaml.load(content, "compose").data))
    bound = [
        (number, port.protocol, port.loopback)
        for port in found
        if isinstance(port, Port)
        for number in range(port.first, port.last + 1)
    ]
    return sorted(bound), [said for said in found if isinstance(said, str)]


@pytest.mark.parametrize("port", WRITTEN)
def test_docker_compose_publishes_the_same_port(port: str, tmp_path: Path) -> None:
    need("docker-compose")
    file = tmp_path / "compose.yml"
    file.write_text(json.dumps({"services": {"a": {"image": "x", "ports": [port]}}}))
    theirs, (bound, unknown) = published(file), ours(file.read_bytes())
    assert bound == numbers(theirs or [])
    # What it refuses, and what it binds anew at each start, is said to be unknown.
    assert bool(unknown) == (not bound)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_docker_compose_publishes_the_same_ports_of_a_project(path: Path) -> None:
    need("docker-compose")
    theirs = published(path, "--no-interpolate")
    assert theirs is not None
    # Those with a variable stay as they are written.
    assert ours(path.read_bytes())[0] == numbers([port for port in theirs if "$" not in str(port)])


def test_the_disk_has_its_label_and_the_files_as_they_are(tmp_path: Path) -> None:
    need("genisoimage", "isoinfo", "blkid")
    folder, disk = written(tmp_path, "cidata") / "cidata", tmp_path / "cidata.iso"
    names = sorted(file.name for file in folder.iterdir())
    command = [running.tool("genisoimage"), "-quiet", "-output", str(disk)]
    subprocess.run([*command, "-volid", "cidata", "-joliet", "-rock", *names], cwd=folder, check=True)

    def output(*words: str) -> bytes:
        return subprocess.run([running.tool(words[0]), *words[1:]], capture_output=True, check=True).stdout

    assert output("blkid", "-o", "value", "-s", "LABEL", str(disk)) == b"cidata\n"
    assert sorted(output("isoinfo", "-i", str(disk), "-R", "-f").decode().split()) == [
        f"/{name}" for name in names
    ]
    for name in names:
        assert output("isoinfo", "-i", str(disk), "-R", "-x", f"/{name}") == (folder / name).read_bytes()


def test_terraform_passes_the_contract_on_unchanged(tmp_path: Path) -> None:
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        # No Debian package brings them, so this is no failure in CI either.
        pytest.skip("neither `terraform` nor `tofu` is on PATH")
    folder = written(tmp_path, "terraform")
    names = json.loads((folder / forms.VALUES).read_text())
    (folder / "main.tf").write_text(
        'output "hash" {\n  value = nonsensitive(sha256(var.contract_user_data))\n}\n'
        + "".join(
            f'output "{name}" {{\n  value = nonsensitive(var.{name})\n}}\n'
            if name == "contract_user_data"
            else f'output "{name}" {{\n  value = var.{name}\n}}\n'
            for name in names
        )
    )

    def run(*words: str) -> str:
        done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", "-input=false", "-no-color")
    run("apply", "-auto-approve", "-input=false", "-no-color")
    outputs = {name: output["value"] for name, output in json.loads(run("output", "-json")).items()}
    assert outputs.pop("hash") == hashlib.sha256(CONTRACT.encode()).hexdigest()
    assert outputs == names
