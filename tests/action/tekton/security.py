"""Security contexts: what a platform gives and forces, as flags of a container engine."""

from __future__ import annotations

from dataclasses import dataclass

from action.tekton.objects import Invalid, Plain, Unsupported

_CRIO = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "KILL",
)
_KNOWN = {"runAsUser", "runAsGroup", "runAsNonRoot", "privileged", "capabilities", "allowPrivilegeEscalation"}


@dataclass(frozen=True)
class Platform:
    """What containers get that ask for nothing (None: Docker's and containerd's capabilities), and what
    they may ask for (None: everything)."""

    uid: int | None = None
    gid: int | None = None
    capabilities: tuple[str, ...] | None = None
    drop_all: bool = False
    may_add: tuple[str, ...] | None = None
    no_new_privileges: bool = False
    confined: bool = False
    root: bool = True
    privileged: bool = True
    adds_account: bool = False


KUBERNETES = Platform()
# The SCC that OpenShift Pipelines gives its service account: any user, and SETFCAP may be asked for.
OPENSHIFT_PIPELINES = Platform(capabilities=_CRIO, may_add=("SETFCAP",), privileged=False, adds_account=True)
# OpenShift's default for everybody else.
RESTRICTED_V2 = Platform(
    uid=1000650000,
    gid=0,
    capabilities=_CRIO,
    drop_all=True,
    may_add=("NET_BIND_SERVICE",),
    no_new_privileges=True,
    confined=True,
    root=False,
    privileged=False,
    adds_account=True,
)


def user(context: Plain, platform: Platform, image_user: str) -> tuple[str, int]:
    """User and group of a container; raises Invalid where they may not be."""
    asked = context.get("runAsUser")
    if platform.uid is not None and asked not in (None, platform.uid):
        raise Invalid(f"runAsUser {asked} is outside the range that the SCC allows")
    chosen = asked if asked is not None else platform.uid
    name, _, group = image_user.partition(":")
    effective = str(chosen) if chosen is not None else name or "0"
    if context.get("runAsNonRoot") or not platform.root:
        if effective in ("0", "root"):
            raise Invalid("runAsNonRoot, and the image runs as root")
        if not effective.isdigit():
            raise Invalid("runAsNonRoot, and the image's user is not a number: the kubelet cannot tell")
    own_group = int(group) if group.isdigit() else 0
    return effective, int(context.get("runAsGroup", platform.gid if platform.gid is not None else own_group))


def flags(context: Plain, platform: Platform) -> list[str]:
    """Everything but the user; raises Invalid for what the platform refuses."""
    if unknown := set(context) - _KNOWN:
        raise Unsupported(f"securityContext: {sorted(unknown)}")
    if context.get("privileged"):
        if not platform.privileged:
            raise Invalid("the SCC allows no privileged container")
        return ["--privileged"]
    capabilities = context.get("capabilities") or {}
    add, drop = list(capabilities.get("add") or []), list(capabilities.get("drop") or [])
    if platform.may_add is not None and (over := set(add) - set(platform.may_add)):
        raise Invalid(f"the SCC does not allow the capabilities {sorted(over)}")
    if platform.drop_all or "ALL" in drop:
        drop = ["ALL"]
    elif platform.capabilities is not None:
        add += [one for one in platform.capabilities if one not in drop]
        drop = ["ALL"]
    result = [f"--cap-drop={one}" for one in drop] + [f"--cap-add={one}" for one in add]
    if context.get("allowPrivilegeEscalation") is False or platform.no_new_privileges:
        result.append("--security-opt=no-new-privileges")
    # Kubernetes' own default is no profile at all.
    return result if platform.confined else [*result, "--security-opt=seccomp=unconfined"]
