"""Every request to what signs, spoiled in every way: whole and right, or a clear error and no tag unsigned.

A Notary server, to which the `notary` program speaks and not we, and the services of a sigstore.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from services import certificates
from services.needed import need
from services.notary import Client, NotaryServer, notary
from services.sigstore import GITHUB, GITHUB_IDENTITY, LocalSigstore
from torture.faulty import FaultyProxy, deadly, spoiled
from torture.stage import ALL, STAGES, Content, Stage, on_any, opened, sample, survived, whole_or_clear

pytestmark = pytest.mark.timeout(1800 if ALL else 300)
_SAMPLE, _CRASHES = 61, 17


def _is_ours(name: str) -> bool:
    """Whether it is the tag of an image, and not of the list of what is signed about one."""
    return ":sha256-" not in name


class Unrepeatable(Stage):
    """A stage with signatures that are others each time: what counts is what tags and the contract name."""

    def outcome(self) -> Content:
        contract = (self.project.workdir / "workload.yaml").read_bytes()
        return {
            "workload": contract,
            **{name: self.tags[name].encode() for name in self.tags if _is_ours(name)},
        }


@dataclass
class Trusting(Unrepeatable):
    """A stage with a Notary server, and somebody else's program that asks it."""

    server: NotaryServer = field(kw_only=True)
    client: Client = field(kw_only=True)

    def set_up(self) -> None:
        super().set_up()
        with closing(self.spoiling.connection("/")) as connection:
            connection.request("DELETE", f"/v2/{self._name}/_trust/tuf/")
            assert connection.getresponse().status == 200

    def check_always(self, told: str) -> None:
        """Also: no tag is set that is not signed."""
        super().check_always(told)
        for digest in (self.tags[name] for name in self.tags if _is_ours(name)):
            self.client.forget()
            assert digest in self.client.do("lookup", self._name, "1.0"), told

    @property
    def _name(self) -> str:
        return f"{self.front.host}/acme/web"


@contextmanager
def with_notary(folder: Path) -> Iterator[Stage]:
    need("notary", "notary-server", "notary-signer", "openssl")
    root, targets = (certificates.private_key(folder, name, "ec:prime256v1") for name in ("root", "targets"))
    with notary(folder / "notary") as server:
        trust = ssl.create_default_context(cafile=server.authority)
        with FaultyProxy(server.url.partition("://")[2], trust=trust) as proxy:
            signing = {
                "dct": {
                    "server": f"http://{proxy.host}",
                    "root": {"key": {"file": str(root)}},
                    "targets": {"key": {"file": str(targets)}},
                }
            }
            client = Client.at(folder / "client", server, server.authority)
            stage = partial(Trusting, server=server, client=client)
            with opened(folder, {"web": ["dct"]}, signing, spoiling=proxy, stage=stage) as made:
                yield made


@contextmanager
def with_sigstore(folder: Path) -> Iterator[Stage]:
    with LocalSigstore(folder / "sigstore") as sigstore, FaultyProxy(sigstore.host) as proxy:
        config = sigstore.files.trust_config
        config.write_bytes(config.read_bytes().replace(sigstore.host.encode(), proxy.host.encode()))
        signing = {
            "keyless": {
                "instance": {"file": str(config)},
                "token": {"secret": "OIDC_TOKEN"},
                "identity": GITHUB_IDENTITY,
                "issuer": GITHUB,
            }
        }
        secrets = {"OIDC_TOKEN": sigstore.token(seconds=7200)}
        with opened(
            folder, {"web": ["keyless"]}, signing, secrets=secrets, spoiling=proxy, stage=Unrepeatable
        ) as made:
            yield made


@pytest.fixture(scope="module", params=[with_notary, with_sigstore], ids=["notary", "sigstore"])
def stages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    """One image, built, and neither signed nor published."""
    need("docker-registry", "buildah")
    with ExitStack() as stack:
        folders = [tmp_path_factory.mktemp("stage") for _ in range(STAGES)]
        yield [stack.enter_context(request.param(folder)) for folder in folders]


def test_every_request_to_what_signs_spoiled(stages: list[Stage], figures: Counter[str]) -> None:
    for _ in on_any(stages, sample(spoiled(stages[0].requests), _SAMPLE), whole_or_clear):
        figures["fault points of signing services tried"] += 1


def test_killed_at_every_request_to_what_signs(stages: list[Stage], figures: Counter[str]) -> None:
    for _ in on_any(stages, sample(deadly(stages[0].requests), _CRASHES), survived):
        figures["crashes survived"] += 1
