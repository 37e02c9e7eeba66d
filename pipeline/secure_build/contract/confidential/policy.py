"""The policy of the agent in the guest: which of the host's requests it carries out, as Rego.

Package and request names are those of the kata-agent; which of them a pod needs follows IBM's page
"About the contract". A container is created only under the name of an image by digest, and only with
the arguments that its descriptor or its image decides. What the policy leaves to the host (variables,
mounts, users) and to the runtime (pulling inside the guest) is in docs/confidential-containers.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_build.contract.confidential.container import ConfidentialContainer
from secure_build.errors import UsageError
from secure_build.model import Finding
from secure_build.reference import Pinned

# What starts, watches and ends a pod.
_ALLOWED = """
CheckRequest DestroySandboxRequest GetOOMEventRequest GuestDetailsRequest OnlineCPUMemRequest
ReadStreamRequest RemoveContainerRequest SignalProcessRequest StartContainerRequest StatsContainerRequest
UpdateEphemeralMountsRequest UpdateInterfaceRequest UpdateRoutesRequest WaitProcessRequest
""".split()
_DENIED = """
AddARPNeighborsRequest AddSwapPathRequest AddSwapRequest AllowRequestsFailingPolicy CloseStdinRequest
ExecProcessRequest GetDiagnosticDataRequest GetIPTablesRequest GetMetricsRequest ListInterfacesRequest
ListRoutesRequest MemAgentCompactConfig MemAgentMemcgConfig MemHotplugByProbeRequest
PauseContainerRequest PullImageRequest ReadContainerTerminationMessage
RemoveStaleVirtiofsShareMountsRequest ReseedRandomDevRequest
ResizeVolumeRequest ResumeContainerRequest SetGuestDateTimeRequest SetIPTablesRequest SetPolicyRequest
StartTracingRequest StopTracingRequest TtyWinResizeRequest UpdateContainerRequest VolumeStatsRequest
WriteStreamRequest
""".split()
# Denied but for the rules below.
_RULED = ["CopyFileRequest", "CreateContainerRequest", "CreateSandboxRequest"]
# The release images of OpenShift: the pause container is one of them, another with each version.
_ANY_INFRA = r"""is_infra(image) if {
	regex.match(`^quay[.]io/openshift-release-dev/ocp-v4[.]0-art-dev@sha256:[0-9a-f]{64}$`, image)
}"""
_RULES = """\
# The host may start the sandbox, but not run hooks or load modules with it.
CreateSandboxRequest if {
	object.get(input, "guest_hook_path", "") == ""
	count(object.get(input, "kernel_modules", [])) == 0
}

# ConfigMaps, Secrets and the like are copied to a folder of their own.
CopyFileRequest if {
	copied := trim_prefix(input.path, "/run/kata-containers/shared/containers/")
	copied != input.path
	regex.match(`^(passthrough/)?(watchable/)?[0-9a-f]{64}-[0-9a-f]{16}-`, copied)
	not leaves(copied)
	not leads_away
}

leaves(path) if regex.match(`^/|(^|/)[.][.](/|$)`, path)

# Where a symbolic link points to; agents have told it under one name, then under the other.
leads_away if {
	some name in ["symlink_src", "symlink_target"]
	is_string(input[name])
	leaves(input[name])
}

# A container of the pods: an image by digest, pulled under that very name, with known arguments.
CreateContainerRequest if {
	image := input.OCI.Annotations["io.kubernetes.cri-o.ImageName"]
	may_run(image, input.OCI.Process.Args)
	count(pulled - {image}) == 0
	no_hooks
}

# The pause container, which the guest has an image of its own for.
CreateContainerRequest if {
	image := input.OCI.Annotations["io.kubernetes.cri-o.ImageName"]
	input.OCI.Annotations["io.kubernetes.cri-o.ContainerType"] == "sandbox"
	is_infra(image)
	count(pulled - {image, "pause"}) == 0
	no_hooks
}

pulled contains storage.source if {
	some storage in input.storages
	storage.driver == "image_guest_pull"
}

no_hooks if object.get(input.OCI, "Hooks", null) == null

no_hooks if {
	every hooks in input.OCI.Hooks {
		count(hooks) == 0
	}
}

may_run(image, arguments) if {
	some command in commands[image]
	arguments == [joined(argument) | some argument in command]
}

may_run(image, _) if image in any_command

# A long argument is written in pieces.
joined(argument) := argument if is_string(argument)

joined(argument) := concat("", argument) if is_array(argument)
"""
_ONE_INFRA = re.compile(r'^is_infra\(image\) if image == "(.*)"$', re.MULTILINE)
# Rego engines bound the length of a line, some at 1024 columns; an escape takes up to six.
_PIECE = re.compile(r"[^\n]{1,120}\n?|\n")
_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Policy:
    """What may run: the argument lists allowed for each image, images that may run with any, the pause image.

    Without an `infra` image every release image of OpenShift may be the pause container.
    """

    commands: Mapping[str, tuple[tuple[str, ...], ...]]
    any_command: tuple[str, ...]
    infra: str | None = None

    @classmethod
    def of(cls, containers: Iterable[ConfidentialContainer], infra: Pinned | None = None) -> Policy:
        """The policy for exactly these containers."""
        commands: dict[str, set[tuple[str, ...]]] = {}
        any_command = set()
        for container in containers:
            if container.arguments is None:
                any_command.add(str(container.image))
            else:
                commands.setdefault(str(container.image), set()).add(container.arguments)
        listed = {image: tuple(sorted(lists)) for image, lists in sorted(commands.items())}
        return cls(listed, tuple(sorted(any_command)), str(infra) if infra else None)

    @classmethod
    def read(cls, text: str) -> Policy:
        """The policy in a text that this version wrote; raises UsageError for any other text.

        What another policy allows cannot be told without evaluating it.
        """
        try:
            commands = {
                image: tuple(tuple("".join(argument) for argument in command) for command in lists)
                for image, lists in _data(text, "commands").items()
            }
            infra = _ONE_INFRA.search(text)
            found = cls(commands, tuple(_data(text, "any_command")), infra[1] if infra else None)
            if found.text() == text:
                return found
        except (ValueError, TypeError, AttributeError, RecursionError):
            # Not what we write there, so not ours.
            pass
        raise UsageError("this policy was not written by this version of secure-build, or was changed since")

    def text(self) -> str:
        """The policy as Rego, always the same for the same containers."""
        defaults = dict.fromkeys(_ALLOWED, "true") | dict.fromkeys(_DENIED + _RULED, "false")
        lines = "".join(f"default {name} := {value}\n" for name, value in sorted(defaults.items()))
        commands = {
            image: [[_pieces(argument) for argument in command] for command in lists]
            for image, lists in self.commands.items()
        }
        infra = _ANY_INFRA if self.infra is None else f"is_infra(image) if image == {_written(self.infra)}"
        return (
            "# Which requests of the host the agent in the guest carries out.\n"
            f"package agent_policy\n\nimport rego.v1\n\n{lines}\n"
            "# The images that may run, with the arguments of their processes.\n"
            f"commands := {_written(commands)}\n\n"
            "# Images that may run with any arguments.\n"
            f"any_command := {_written(self.any_command)}\n\n{infra}\n\n{_RULES}"
        )

    def covers(self, container: ConfidentialContainer) -> bool:
        """Whether the container may run; without its arguments, whether its image may."""
        image = str(container.image)
        allowed = self.commands.get(image, ())
        arguments = container.arguments
        return image in self.any_command or (bool(allowed) if arguments is None else arguments in allowed)


def policy(containers: Iterable[ConfidentialContainer], *, infra: Pinned | None = None) -> str:
    """The policy that lets exactly these containers run; `infra` is the pause image, where it is known."""
    return Policy.of(containers, infra).text()


def uncovered(text: str, containers: Iterable[ConfidentialContainer]) -> list[ConfidentialContainer]:
    """Those of the containers that a policy of ours does not let run.

    Raises UsageError for a policy that is not ours: it could not be checked.
    """
    found = Policy.read(text)
    return [container for container in containers if not found.covers(container)]


def findings(containers: Iterable[ConfidentialContainer]) -> list[Finding]:
    """Containers whose arguments the policy cannot name."""
    return [
        Finding(
            check="policy",
            level="warn",
            what=f"container `{container.name}` may run `{container.image}` with any arguments",
            why="its descriptor has no `command`, and what the image runs by itself is not known here",
            basis="inferred",
            hint="write `command` and `args` of the container out",
            where=container.where,
        )
        for container in containers
        if container.arguments is None
    ]


def _data(text: str, name: str) -> Any:
    """What JSON stands behind this name in a policy; raises ValueError when there is none."""
    start = f"\n{name} := "
    return json.JSONDecoder().raw_decode(text, text.index(start) + len(start))[0]


def _pieces(argument: str) -> str | list[str]:
    return argument if len(argument) <= _LONGEST else _PIECE.findall(argument)


def _written(value: object) -> str:
    # Rego's texts, lists and objects are JSON's. Some engines compare `\u00e9` and `é` as different.
    return json.dumps(value, ensure_ascii=False, indent="\t")
