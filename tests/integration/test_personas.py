"""One contract by three people in three folders, each of whom has only what is theirs."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from integration import examples
from integration.project import Project
from services import opened
from services.belongings import Belongings

LINE = re.compile(r"(?m)^#   ([0-9a-f]{64} contract:\w+)$")
HANDED_OVER = "workload.encrypted.yaml"


@dataclass(frozen=True)
class People:
    """The folders, with what each person has in the environment."""

    provider: Project
    deployer: Project
    auditor: Project
    owned: Belongings

    def hand_over(self, name: str = HANDED_OVER) -> None:
        """The deployer gets the provider's token, and nothing else."""
        shutil.copy(self.provider.workdir / name, self.deployer.directory / HANDED_OVER)

    def assembled(self) -> tuple[dict[str, str], str]:
        """The contract that the deployer makes, and what was printed."""
        said = self.deployer.run("contract", "assemble", "--workload", HANDED_OVER).stdout
        return examples.contract(self.deployer.workdir / "contract.draft.yaml"), said

    def assert_verified(self, contract: dict[str, str], key: Path) -> None:
        """openssl opens both sections with this key, and the signature is right."""
        workload, env = (opened.plaintext(contract[name], key).decode() for name in ("workload", "env"))
        assert workload == examples.contract(self.provider.workdir / "workload.yaml")["workload"]
        assert env == examples.contract(self.deployer.workdir / "env.draft.yaml")["env"]
        signed = contract["workload"], contract["env"], contract["envWorkloadSignature"]
        assert opened.verified(*signed, yaml.safe_load(env)["signingKey"]) == "Verified OK\n"


@pytest.fixture
def people(
    short_path: Path,
    variables: Callable[..., dict[str, str]],
    copy_example: Callable[[str, Path], None],
    owned: Belongings,
    builder: str,
) -> People:
    made = {}
    for name in ("provider", "deployer", "auditor"):
        folder = short_path / name
        copy_example(f"personas/{name}", folder)
        secrets = examples.secrets(folder, owned.secrets)
        made[name] = Project(folder, variables(builder if name == "provider" else None) | secrets)
    provider = made["provider"]
    provider.environment["SECURE_BUILD_BUILDER"] = builder
    provider.config = yaml.safe_load((provider.directory / "secure-build.yaml").read_text())
    provider.commit()
    shutil.copy(owned.auditor, made["auditor"].directory / "auditor.key")
    # Nobody has what is the others'.
    assert {"SEED_ENV", "SYSLOG_KEY", "SIGNING_KEY"}.isdisjoint(provider.environment)
    assert {"SEED_WORKLOAD", "REGISTRY_PULL", "REGISTRY_PUSH"}.isdisjoint(made["deployer"].environment)
    assert not (made["deployer"].directory / ".git").exists()
    return People(**made, owned=owned)


@pytest.mark.parametrize("builder", ["buildah"], indirect=True)
def test_from_three_folders_to_an_attested_contract_and_through_an_upgrade(people: People) -> None:
    provider, deployer, auditor, owned = people.provider, people.deployer, people.auditor, people.owned
    provider.run("run")
    assert not (provider.workdir / "contract.yaml").exists()
    people.hand_over()
    deployer.run("contract", "env")
    contract, said = people.assembled()
    people.assert_verified(contract, owned.runtime[1])
    assert opened.plaintext(contract["attestationPublicKey"], owned.runtime[1]) == owned.files["auditor.pem"]

    # The machine starts: it writes what it was given, and encrypts that for the auditor.
    lines = [
        f"{hashlib.sha256(text.encode()).hexdigest()} contract:{name}" for name, text in contract.items()
    ]
    record = "Machine Type/Plant/Serial: 8562/02/16A88\n" + "".join(f"{line}\n" for line in lines)
    sealed = opened.sealed(record.encode(), owned.files["auditor.pem"])
    auditor.write({"se-checksums.txt.enc": sealed})
    shown = auditor.run("contract", "show", "se-checksums.txt.enc", "--key", "auditor.key").stdout
    assert shown == record
    assert LINE.findall(said) == [line for line in shown.splitlines() if " contract:" in line]

    # An image of the runtime with another certificate: the same bytes for it, each by who has them.
    sections = (provider.workdir / "workload.yaml", deployer.workdir / "env.draft.yaml")
    plain = [path.read_bytes() for path in sections]
    for project, section in ((provider, "workload"), (deployer, "env")):
        examples.encrypt_for(project.directory, owned.next_runtime[0])
        project.run("contract", "re-encrypt", "--section", section)
    people.hand_over("workload.encrypted.draft.yaml")
    again, _ = people.assembled()
    assert all(again[name] != contract[name] for name in contract)
    people.assert_verified(again, owned.next_runtime[1])
    assert plain == [path.read_bytes() for path in sections]

    # Other bytes are another contract, whose volumes could not be opened.
    changed = provider.workdir / "workload.draft.yaml"
    changed.write_bytes(changed.read_bytes().replace(b"/mnt/data", b"/mnt/date"))
    refused = provider.run(*("contract", "re-encrypt", "--section", "workload", str(changed)), status=1)
    assert "is not what the build record" in refused.stderr
