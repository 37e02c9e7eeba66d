"""A namespace of a cluster that is not there: our catalog, a registry, a git server, and the step image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from action.tekton import catalog, security
from action.tekton.containers import Containers
from action.tekton.objects import Binding, KeyValues, Plain
from action.tekton.runs import Namespace
from action.tekton.security import Platform
from integration import examples
from integration.project import git
from services.belongings import Belongings
from services.git_servers import HttpGit, http_git
from services.needed import need
from services.running import Engine


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGit]:
    with http_git(tmp_path_factory.mktemp("git")) as started:
        yield started


@dataclass
class Cluster:
    """A namespace, with one project in a repository on a server."""

    namespace: Namespace
    image: str
    project: Path
    output: Path
    url: str
    owned: Belongings
    # More workspaces than the usual ones.
    bound: dict[str, Binding] = field(default_factory=dict)

    def on(self, platform: Platform) -> Namespace:
        """The same on another platform."""
        containers = replace(self.namespace.containers, platform=platform)
        return replace(self.namespace, containers=containers)

    def values(self, document: Plain) -> Plain:
        """The document with the names of this machine in place of those of the example."""
        text = yaml.safe_dump(document)
        for name, value in (
            ("https://git.example.com/acme/shop.git", self.url),
            ("registry.example.com/secure-build/step@sha256:" + 64 * "0", self.image),
        ):
            text = text.replace(name, value)
        changed: Plain = yaml.safe_load(text)
        return changed


@pytest.fixture
def make_cluster(
    engine: Engine,
    step_image: str,
    git_server: HttpGit,
    copy_example: Callable[[str, Path], None],
    request: pytest.FixtureRequest,
) -> Callable[..., Cluster]:
    """Makes a cluster around an example, all of whose files are in the repository."""
    need("docker", "git", "skopeo")
    owned: Belongings = request.getfixturevalue("owned")
    short_path: Path = request.getfixturevalue("short_path")

    def make(example: str = "ccrt", platform: Platform = security.KUBERNETES) -> Cluster:
        project = git_server.root / f"{short_path.name}-{example.replace('/', '-')}"
        copy_example(example, project)
        (project / ".gitignore").unlink(missing_ok=True)
        git(project, "init", "--quiet")
        git(project, "add", "--all")
        git(project, "commit", "--quiet", "-m", "a change")
        output = short_path / f"output-{project.name}"
        output.mkdir()
        output.chmod(0o777)
        return Cluster(
            Namespace(
                Containers(engine, platform),
                catalog.everything(),
                claims={"contracts": output},
                objects={"secure-build-secrets": KeyValues(examples.secrets(project, owned.secrets))},
            ),
            step_image,
            project,
            output,
            f"{git_server.url}/{project.name}/.git",
            owned,
        )

    return make
