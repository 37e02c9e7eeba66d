"""lock: the digests of what builds and the contract take from outside, into the file beside the config.

Only the builder knows what a build pulls, so what has not been built is built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from secure_build import files, materials
from secure_build import lock as lock_file
from secure_build.errors import RefusedError
from secure_build.lock import Change, Input, Lock
from secure_build.model import GUEST, Image
from secure_build.steps.build import build
from secure_build.steps.contract import check_workload
from secure_build.steps.job import Job
from secure_build.steps.pins import resolve_all


@dataclass(frozen=True, slots=True)
class Locked:
    """Where the lock is, and what is another in it than before."""

    path: Path
    changes: tuple[Change, ...]


def lock(work: Job, *, update: bool) -> Locked:
    """Write the lock: what is missing is added, what nothing uses is removed.

    With `update` everything is resolved anew. The commit is built even when the working tree
    differs, since it does as soon as the lock has been written.
    """
    options = replace(work.options, allow_dirty=True, images=(), platform=None, locked=False)
    work = replace(work, options=options, lock=Lock() if update else work.lock)
    if work.loaded.config.workload is None:
        resolve_all(work, [image.use for image in work.loaded.config.used.values()])
    else:
        check_workload(work, selected=work.loaded.config.built)
    inputs = {
        Input("used", str(image.reference.tagged()), GUEST): str(image.digest)
        for image in work.resolved.values()
        if image.reference.digest is None
    }
    for image in build(work).images:
        inputs |= _inputs(image)
    before = lock_file.load(work.lock_path) or Lock()
    after = Lock(inputs)
    content = lock_file.dump(after)
    if work.lock_path.exists() and work.lock_path.read_bytes() == content:
        work.report.step(f"{work.lock_path}: unchanged")
    else:
        files.write(work.lock_path, content)
        work.report.step(f"{work.lock_path}: written; commit it")
    return Locked(work.lock_path, tuple(lock_file.changes(before, after)))


def _inputs(image: Image) -> dict[Input, str]:
    if image.materials is None:
        raise RefusedError(
            f"{image.name}: {image.builder} does not say what it pulled, so it cannot be locked",
            hint="use another builder: `--builder buildx` or `--builder buildah`",
        )
    found: dict[Input, str] = {}
    for platform, taken in materials.per_platform(image.materials, image.platforms).items():
        for material in taken:
            wanted = Input(material.kind, material.name, platform)
            if not material.is_fixed and found.setdefault(wanted, material.digest) != material.digest:
                raise RefusedError(
                    f"{image.name}: {wanted} has two digests in one build: "
                    f"{found[wanted]} and {material.digest}",
                    hint="name it by digest in the Dockerfile, or run again if its tag moved just now",
                )
    return found
