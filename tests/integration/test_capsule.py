"""A capsule of real images, carried to where there is no network and nothing of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from integration.test_evidence import pod
from integration.test_secrets import contents, found_in
from integration.test_signed import SECRETS, World, world
from services import running
from services.needed import need

__all__ = ["world"]


def check(folder: Path, *more: str) -> tuple[int, str]:
    """Run the capsule's script in a network namespace of its own, with the system's programs only."""
    command = ["unshare", "--map-root-user", "--net", "sh", "evidence/check.sh", ".", *more]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not ended.stderr
    return ended.returncode, ended.stdout


def test_it_is_checked_without_network_and_without_us(world: World, tmp_path: Path) -> None:
    need("unshare", "gpg", "openssl", "skopeo")
    project = world.project
    images = {name: project.config["images"][name] for name in ("pod", "tagged")}
    project.config |= {"images": images, "attestations": {"sbom": ["spdx"]}}
    project.commit({"pod.yaml": pod("pod", "tagged")})
    project.run("run")
    record = project.record_path.read_bytes()
    project.run("publish", "--to", f"oci:{tmp_path / 'capsule'}", "--with-evidence")
    assert project.record_path.read_bytes() == record
    secrets = {name: project.environment[name] for name in SECRETS}
    for path, content in contents(tmp_path / "capsule"):
        assert not found_in(content, secrets), path

    (world.folder / "builder.asc").write_bytes(world.gpg.public("builder"))
    keys = ("--cosign-key", str(world.folder / "cosign.pub"), "--gpg-key", str(world.folder / "builder.asc"))
    # To where no file is that it was made of.
    carried = tmp_path / "elsewhere"
    shutil.move(tmp_path / "capsule", carried)
    code, said = check(carried, *keys)
    assert code == 5, said
    assert "BAD" not in said
    # Two images for three platforms: index and members of one, and the other.
    assert len(re.findall(r"^good .*/signature-1: ", said, re.MULTILINE)) == 3 + 1
    for predicate, count in (
        ("sigstore.dev/cosign/sign", 1),
        ("slsa.dev/provenance", 4),
        ("spdx.dev/Doc", 3),
    ):
        assert len(re.findall(rf"^good .*{predicate}", said, re.MULTILINE)) == count, (predicate, said)
    open_ends = [line for line in said.splitlines() if line.startswith("not checked ")]
    assert sum("keyless" in line for line in open_ends) == 1 + 1 + 4 + 3
    assert sum("dct signature" in line for line in open_ends) == 1
    # Others read the layout too.
    name = world.image("pod")["reference"]
    skopeo = running.tool("skopeo")
    subprocess.run(
        [skopeo, "--override-arch", "s390x", "copy", f"oci:{carried}:{name}", f"dir:{tmp_path / 'out'}"],
        check=True, capture_output=True,
    )  # fmt: skip

    layer = max((carried / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(layer.read_bytes())
    content[len(content) // 2] ^= 1
    layer.write_bytes(content)
    code, said = check(carried, *keys)
    assert code == 1
    assert f"BAD          blobs/sha256/{layer.name}: " in said
