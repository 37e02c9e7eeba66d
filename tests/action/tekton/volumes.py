"""The folders that a step sees: workspaces, volumes, and what Tekton itself puts into a pod."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from action.tekton.objects import Binding, EmptyDir, Folder, Invalid, KeyValues, Plain, Unsupported

_SECRET_MODE = 0o644


@dataclass(frozen=True)
class Mount:
    source: Path
    target: str
    readonly: bool = False

    @property
    def flag(self) -> str:
        suffix = ",readonly" if self.readonly else ""
        return f"--mount=type=bind,source={self.source},target={self.target}{suffix}"


@dataclass
class Volumes:
    """What the pod of one TaskRun has on disk, below `root`."""

    root: Path
    objects: Mapping[str, KeyValues] = field(default_factory=dict)

    def empty(self, name: str) -> Path:
        """A folder that everybody may write to, as an emptyDir is."""
        folder = self.root / name
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        return folder

    def of_binding(self, name: str, binding: Binding) -> tuple[Path, bool]:
        if isinstance(binding, Folder):
            return binding.path.resolve(), False
        if isinstance(binding, EmptyDir):
            return self.empty(f"workspace-{name}"), False
        return self._keys(f"workspace-{name}", binding), True

    def of_pod(self, volumes: list[Plain], step: Plain) -> Iterator[Mount]:
        known = {volume["name"]: volume for volume in volumes}
        for mount in step.get("volumeMounts") or []:
            if mount["name"] not in known:
                raise Invalid(f"volumeMount {mount['name']}: no such volume")
            source, readonly = self._of_volume(known[mount["name"]])
            yield Mount(
                source, posixpath.normpath(mount["mountPath"]), readonly or mount.get("readOnly", False)
            )

    def of_tekton(self, step: int, steps: int) -> Iterator[Mount]:
        """`/tekton`, as the controller mounts it: only its own step may write into its run folder."""
        for target, name in (
            ("/workspace", "workspace"),
            ("/tekton/home", "home"),
            ("/tekton/results", "results"),
            ("/tekton/creds", f"creds-{step}"),
        ):
            yield Mount(self.empty(f"tekton-{name}"), target)
        yield Mount(self.empty("tekton-steps"), "/tekton/steps", readonly=True)
        for number in range(steps):
            yield Mount(self.run(number), f"/tekton/run/{number}", readonly=number != step)

    def run(self, step: int) -> Path:
        """The run folder of a step, with a place for its own results."""
        folder = self.empty(f"tekton-run-{step}")
        self.empty(f"tekton-run-{step}/status")
        self.empty(f"tekton-run-{step}/status/results")
        return folder

    def name_step(self, step: int, name: str) -> None:
        link = self.empty("tekton-steps") / name
        if not link.is_symlink():
            link.symlink_to(f"/tekton/run/{step}/status")

    def results(self) -> Path:
        return self.empty("tekton-results")

    def _of_volume(self, volume: Plain) -> tuple[Path, bool]:
        name = volume["name"]
        if "emptyDir" in volume:
            return self.empty(f"volume-{name}"), False
        if not (source := volume.get("secret") or volume.get("configMap")):
            raise Unsupported(f"volume {name}: {sorted(set(volume) - {'name'})}")
        key = source.get("secretName") or source.get("name")
        if key not in self.objects and not source.get("optional"):
            raise Invalid(f"volume {name}: no Secret or ConfigMap {key}: the pod would wait for ever")
        return self._keys(f"volume-{name}", self.objects.get(key, KeyValues({}))), True

    def _keys(self, name: str, binding: KeyValues) -> Path:
        """Each key is a link to a link, so that all of them change at once."""
        folder = self.empty(name)
        data = folder / "..2026_01_01_00_00_00.1"
        if not data.exists():
            data.mkdir()
            (folder / "..data").symlink_to(data.name)
            for key, value in binding.data.items():
                (data / key).write_text(value)
                (data / key).chmod(_SECRET_MODE)
                (folder / key).symlink_to(f"..data/{key}")
        return folder
