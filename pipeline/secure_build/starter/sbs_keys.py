"""What becomes of each key of `sbs-config.json`, the configuration of IBM's Secure Build Server.

This table is the one source for the conversion, its report and docs/migrate-from-secure-build-server.md.
Meanings of the keys: github.com/ibm-hyper-protect/secure-build-cli, HPSB-VPC.md, HPSB-HPVScloud.md,
additional-build-parameters.md and build.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["carried", "replaced", "dropped"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its group, what becomes of it, where its value or purpose goes, and what to know."""

    name: str
    group: str
    outcome: Outcome
    to: str
    why: str


def _cos(prefix: str) -> tuple[Key, ...]:
    outcome, to, why = _COS[prefix]
    names = ("COS_API_KEY_ID", "COS_RESOURCE_CRN", "COS_ENDPOINT", "COS_AUTH_ENDPOINT")
    return tuple(Key(f"{prefix}{name}", "Object storage", outcome, to, why) for name in names)


_RECORD = "the build record"
_RECORD_WHY = "What was built from what is in `build-record.json` in the work folder; keep it where you like."
_STATE_WHY = "There is no server and no state: two runs on one commit give the same."
_NO_SERVER = "There is no server: the build runs where the command runs."
_NO_TLS = "It secured the connection to the server; there is none."
_BASE_PIN = "Pin the base in the Dockerfile, `FROM name@sha256:…`: then it is that content and no other."
_DIGEST = "`enforce: digest`"
_COS: dict[str, tuple[Outcome, str, str]] = {
    "": ("replaced", _RECORD, _RECORD_WHY),
    "MANIFEST_": ("replaced", _RECORD, _RECORD_WHY),
    "STATE_": ("dropped", "", _STATE_WHY),
}

KEYS: tuple[Key, ...] = (
    Key("HOSTNAME", "Server", "dropped", "", _NO_SERVER),
    Key("CICD_PORT", "Server", "dropped", "", _NO_SERVER),
    Key("IMAGE_TAG", "Server", "dropped", "", "It was the version of the server, not of your image."),
    Key("CONTAINER_NAME", "Server", "dropped", "", _NO_SERVER),
    Key(
        "RUNTIME_TYPE",
        "Server",
        "replaced",
        "`target`",
        "`vpc` becomes `hpvs`, `on-prem` becomes `ccrt`; `classic` has no contract, so `ccrt` stands there "
        "to be checked. A file without this key meant `vpc`.",
    ),
    Key(
        "REPO_ID",
        "Server",
        "dropped",
        "",
        "It named the registration file of `classic`; contracts have none.",
    ),
    Key("UUID", "Server", "dropped", "", "It named the folder with the server's certificates."),
    Key("GITHUB_URL", "Source", "carried", "`source.url`", "Any git host. A password in it is taken out."),
    Key("GITHUB_BRANCH", "Source", "carried", "`source.ref`", "A branch, a tag or a full commit."),
    Key(
        "GITHUB_KEY_FILE",
        "Source",
        "replaced",
        "`source.ssh-key`",
        "Put the content of that file into the secret. `source.known-hosts` names the host's keys.",
    ),
    Key("GITHUB_RECURSE_SUBMODULES", "Source", "carried", "`source.submodules`", ""),
    Key("DOCKER_REPO", "Target", "carried", "`images.NAME.image`", "Its last part names the image here."),
    Key(
        "DOCKER_PUSH_SERVER",
        "Target",
        "carried",
        "`images.NAME.image`, `registries`",
        "Without it `docker.io`, as before.",
    ),
    Key("DOCKER_USER", "Target", "carried", "`registries.HOST.push.username`", ""),
    Key(
        "DOCKER_PASSWORD",
        "Target",
        "replaced",
        "`registries.HOST.push.password`",
        "Put the value into the secret of that name.",
    ),
    Key("DOCKER_RO_USER", "Target", "carried", "`registries.HOST.runtime.username`", ""),
    Key(
        "DOCKER_RO_PASSWORD",
        "Target",
        "replaced",
        "`registries.HOST.runtime.password`",
        "Put the value into the secret of that name; it must be another credential than the one that "
        "publishes.",
    ),
    Key(
        "IMAGE_TAG_PREFIX",
        "Target",
        "carried",
        "the tag of `images.NAME.image`",
        "The tag was the prefix, `-` and 7 hexadecimal digits of the commit. Here it is what stands in "
        "`image:`, the prefix alone; the contract names the digest, and the build record the commit.",
    ),
    Key("DOCKER_BASE_SERVER", "Base image", "carried", "`registries.HOST.pull`", "Without it `docker.io`."),
    Key("DOCKER_BASE_USER", "Base image", "carried", "`registries.HOST.pull.username`", ""),
    Key(
        "DOCKER_BASE_PASSWORD",
        "Base image",
        "replaced",
        "`registries.HOST.pull.password`",
        "Put the value into the secret of that name.",
    ),
    Key("DOCKER_CONTENT_TRUST_BASE", "Base image", "replaced", "a digest in the Dockerfile", _BASE_PIN),
    Key(
        "DOCKER_CONTENT_TRUST_BASE_SERVER", "Base image", "replaced", "a digest in the Dockerfile", _BASE_PIN
    ),
    Key("ICR_BASE_REPO", "Base image", "replaced", "a digest in the Dockerfile", _BASE_PIN),
    Key("ICR_BASE_REPO_PUBLIC_KEY", "Base image", "replaced", "a digest in the Dockerfile", _BASE_PIN),
    Key(
        "DOCKER_CONTENT_TRUST_PUSH_SERVER",
        "Signing",
        "replaced",
        _DIGEST,
        "The contract names the image by digest, so the runtime runs that build and no other. "
        "With keys under `signing: dct:`, `enforce: dct` goes on with a Notary server.",
    ),
    Key("KEY_ID", "Signing", "dropped", "", "It chose the key for the registration file of `classic`."),
    Key("EMAIL", "Signing", "dropped", "", "It belonged to the key for the registration file of `classic`."),
    Key("ROOT_SSH_KEY_FILE", "Signing", "dropped", "", "It gave access to the server; there is none."),
    Key(
        "DOCKERFILE_PATH",
        "Build",
        "carried",
        "`images.NAME.build.dockerfile`",
        "It was relative to the repository; here it is relative to the context.",
    ),
    Key(
        "DOCKER_BUILD_PATH",
        "Build",
        "carried",
        "`images.NAME.build.context`",
        "Empty was the repository's top.",
    ),
    Key(
        "BUILD_SCRIPT",
        "Build",
        "dropped",
        "",
        "An image is built from a Dockerfile alone: make the script's work `RUN` steps or a stage of it.",
    ),
    Key(
        "BUILD_DIR", "Build", "dropped", "", "It belonged to BUILD_SCRIPT; the context is DOCKER_BUILD_PATH."
    ),
    Key(
        "ARG",
        "Build",
        "carried",
        "`images.NAME.build.args`",
        "An argument whose name looks like a secret becomes a named secret in `images.NAME.build.secrets`: "
        "change its `ARG` to `RUN --mount=type=secret`.",
    ),
    Key(
        "ENV_WHITELIST",
        "Build",
        "dropped",
        "",
        "Nothing needs to be allowed: variables come from the `env` of the contract's sections.",
    ),
    Key(
        "SECRETS",
        "Build",
        "replaced",
        "`images.NAME.build.secrets`",
        "Each name becomes a named secret, for `RUN --mount=type=secret,id=NAME`.",
    ),
    Key(
        "ISV_SECRET",
        "Build",
        "replaced",
        "`env` of the contract",
        "Secrets of the running program are variables in the contract's encrypted sections, not a file.",
    ),
    Key(
        "EXIT_NONZERO", "Build", "dropped", "", "A step that fails always fails the build, with exit code 1."
    ),
    Key("SECRET", "Keys and TLS", "dropped", "", _STATE_WHY),
    Key("NEW_SECRET", "Keys and TLS", "dropped", "", _STATE_WHY),
    *(
        Key(name, "Keys and TLS", "dropped", "", _NO_TLS)
        for name in ("CAPATH", "CAKEYPATH", "CLIENT_CRT_KEY", "CSRPATH", "CERTPATH")
    ),
    *_cos(""),
    *_cos("MANIFEST_"),
    *_cos("STATE_"),
    Key("MANIFEST_BUCKET_NAME", "Object storage", "replaced", _RECORD, _RECORD_WHY),
    Key("STATE_BUCKET_NAME", "Object storage", "dropped", "", _STATE_WHY),
)

BY_NAME = {key.name: key for key in KEYS}
