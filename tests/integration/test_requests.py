"""How many requests each kind of work takes, and how many of them at the same moment.

This does not depend on the machine; how long it takes is measured by `make bench`. Counted at a registry
that says who may do what by itself, without tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.cosigns import PASSPHRASE, Cosigns
from integration.project import Project
from services.counting import CountingProxy
from services.needed import need
from services.running import RunningRegistry

Projects = Callable[..., Project]
_COUNT = 10
_SIGNED = 5


@pytest.fixture
def proxy(registry: RunningRegistry) -> Iterator[CountingProxy]:
    with CountingProxy(registry.host) as started:
        yield started


@pytest.fixture
def project(make_project: Projects, proxy: CountingProxy, tmp_path: Path) -> Project:
    """Ten images of one layer each, built, and half of them signed."""
    need("buildah", "cosign2")
    key, _ = Cosigns(tmp_path).make_key("cosign2", "key")
    made = make_project(
        "buildah",
        host=proxy.host,
        signing={"cosign": {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSWORD"}}},
        attestations={"sbom": [], "provenance": False},
    )
    repository = made.image.rpartition(":")[0]
    made.environment |= {"COSIGN_KEY": key.read_text(), "COSIGN_PASSWORD": PASSPHRASE}
    made.config["images"] = {
        f"image{number}": {
            "image": f"{repository}/{number}:1.0",
            "build": {"context": f"image{number}"},
            "sign": ["cosign"] if number % 2 else [],
        }
        for number in range(_COUNT)
    }
    services = "".join(
        f"  {name}:\n    image: {image['image']}\n" for name, image in made.config["images"].items()
    )
    contexts = {f"{name}/Dockerfile": "FROM scratch\nCOPY page /\n" for name in made.config["images"]}
    pages = {f"{name}/page": name for name in made.config["images"]}
    made.commit({**contexts, **pages, "docker-compose.yml": f"services:\n{services}"})
    made.run("build")
    made.run("sign")

    return made


def counted(proxy: CountingProxy) -> Counter[str]:
    """Requests by method and kind of what they are about."""
    kinds = {"blobs": "blob", "manifests": "manifest", "referrers": "referrers", "uploads": "upload"}
    found: Counter[str] = Counter()
    for one in proxy.taken():
        parts = one.path.partition("?")[0].split("/")
        kind = next(kinds[part] for part in reversed(parts) if part in kinds)
        found[f"{one.method} {kind}"] += 1
    return found


# For each image, and for each that is signed besides: this registry keeps no lists of referrers, and says
# so when it is asked; what is about an image is then in an index under a tag.
_IMAGE = {
    # The tag as it is and as it has become, the layer as it is; layer and config; the image, and the tag.
    "publish": {"HEAD manifest": 2, "HEAD blob": 1, "POST upload": 2, "PUT upload": 2, "PUT manifest": 2},
    "publish again": {"HEAD manifest": 1},
    "contract workload": {"GET manifest": 1},
    "verify": {"GET manifest": 1},
    "run": {"HEAD manifest": 1, "GET manifest": 1},
}
_SIGNATURE = {
    "publish": {
        "GET referrers": 1,
        "GET manifest": 5,
        "GET blob": 1,
        "POST upload": 2,
        "PUT upload": 2,
        "PUT manifest": 3,
    },
    "publish again": {"GET referrers": 1, "GET manifest": 1},
    "contract workload": {},
    "verify": {"GET referrers": 1, "GET manifest": 1},
    "run": {"GET referrers": 1, "GET manifest": 1},
}


def test_every_verb_keeps_to_its_requests(project: Project, proxy: CountingProxy) -> None:
    assert not proxy.requests, "to build and to sign needs no registry"
    for work, each in _IMAGE.items():
        project.run(*work.removesuffix(" again").split())
        allowed = Counter({kind: count * _COUNT for kind, count in each.items()})
        allowed.update({kind: count * _SIGNED for kind, count in _SIGNATURE[work].items()})
        found = counted(proxy)
        # Positive control: every image was asked for.
        assert sum(found.values()) >= _COUNT, work
        assert found <= allowed, f"{work}: {found - allowed}"


def test_all_images_are_asked_for_at_the_same_moment(project: Project, proxy: CountingProxy) -> None:
    project.run("publish")
    # Long enough for a slow machine to send all of them.
    proxy.hold(2)
    project.run("verify", "--jobs", "2")
    assert proxy.most == _COUNT


def test_one_job_sends_one_request_at_a_time(project: Project, proxy: CountingProxy) -> None:
    project.run("publish")
    proxy.hold(0.1)
    project.run("verify", "--jobs", "1")
    assert proxy.most == 1
