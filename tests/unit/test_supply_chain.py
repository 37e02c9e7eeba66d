"""What is taken from others is fixed: packages by hash, actions by commit, images by digest."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from pip_requirements_parser import RequirementsFile

from secure_build import __version__, config, lock
from secure_build.lock import Input

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
# Where actions and images of others are named; what is below `tests` is made up.
NAMING = [
    ROOT / "action.yml",
    *(path for folder in (".github", "actions", "examples") for path in sorted((ROOT / folder).rglob("*"))),
]
USES = re.compile(r"^\s*(?:- )?uses: (\S+)(.*)$", re.MULTILINE)
FROM = re.compile(r"^FROM (?:--\S+ )*(\S+)(?: AS (\S+))?$", re.MULTILINE)
DIGEST = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}")


def texts(pattern: str) -> dict[str, str]:
    """What is in the files of these names, by path."""
    found = [path for path in NAMING if path.is_file() and re.search(pattern, path.name)]
    return {str(path.relative_to(ROOT)): path.read_text() for path in found}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_versions_and_hashes_and_no_address(path: Path) -> None:
    read = RequirementsFile.from_file(str(path))
    assert read.requirements
    assert (read.options, read.invalid_lines) == ([], [])
    assert "://" not in path.read_text()
    for requirement in read.requirements:
        assert requirement.is_pinned, requirement.name
        assert requirement.hash_options, requirement.name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in requirement.hash_options)


def test_the_locks_agree() -> None:
    """What is tested, audited and installed is the same."""
    found, names = defaultdict(set), defaultdict(set)
    for path in LOCKS:
        for one in RequirementsFile.from_file(str(path)).requirements:
            names[path.stem].add(one.name)
            found[one.name].add((one.get_pinned_version, *sorted(one.hash_options)))
    assert {name: len(forms) for name, forms in found.items() if len(forms) > 1} == {}
    assert names["main"] | names["build"] <= names["dev"]


def test_every_action_is_one_commit() -> None:
    commits = defaultdict(set)
    for path, text in texts(r"\.ya?ml$").items():
        for name, said in USES.findall(text):
            action, _, commit = name.partition("@")
            assert re.fullmatch("[0-9a-f]{40}", commit), f"{path}: {name}"
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", said), f"{path}: {name}{said}"
            owner, repository, *_ = action.split("/")
            commits[f"{owner}/{repository}"].add((commit, said))
    assert set(commits) > {"actions/checkout", "secure-build/secure-build"}
    assert {name: len(named) for name, named in commits.items() if len(named) > 1} == {}


def test_every_base_is_a_digest() -> None:
    files = texts("ockerfile|^Containerfile$")
    assert len(files) > 10
    for path, text in files.items():
        if path.endswith(".dockerignore"):
            continue
        arguments = dict(re.findall(r"^ARG (\w+)(?:=(\S+))?$", text.partition("FROM")[0], re.MULTILINE))
        stages = {"scratch"}
        for name, stage in FROM.findall(text):
            argument = re.fullmatch(r"\$\{(\w+)\}", name)
            base = arguments[argument[1]] if argument else name
            # An argument without a default is for whoever builds to decide; of releases the lock has it.
            assert base in stages or (argument and not base) or DIGEST.fullmatch(base), f"{path}: {name}"
            stages.add(stage)


def test_every_image_of_a_workflow_or_task_is_a_digest_or_asked_for() -> None:
    found = [
        (path, image)
        for path, text in texts(r"\.ya?ml$").items()
        if path.startswith((".github/", "actions/tekton/", "examples/github/", "examples/tekton/"))
        for image in re.findall(r"^\s*(?:- )?image: (?!\$\{\{)(\S+)", text, re.MULTILINE)
    ]
    assert {path.partition("/")[0] for path, _ in found} == {".github", "actions"}
    for path, image in found:
        assert image == "$(params.IMAGE)" or DIGEST.fullmatch(image), f"{path}: {image}"


def test_the_release_is_of_this_version_and_its_base_is_locked() -> None:
    loaded = config.load(ROOT / "actions" / "release" / "secure-build.yaml")
    image, signer = loaded.config.built["step"], loaded.config.signing.keyless
    assert image.image.tag == __version__
    assert signer is not None
    assert str(signer.identity).endswith(f"/release.yml@refs/tags/v{__version__}")
    locked = lock.load(lock.path_of(loaded.path))
    assert locked is not None
    wanted = {Input("image", image.build.args["BASE"], platform) for platform in image.build.platforms}
    assert wanted == locked.digests.keys()
