"""Where the OIDC token comes from that tells sigstore who signs.

From the config, from the CI system, or from a file of the machine; never from a browser, and never by
asking somebody. A token lets whoever has it sign in our name until it expires: it is a secret.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from secure_build import files, manifest, secret
from secure_build.address import check_encrypted
from secure_build.errors import MachineError, ServiceError, UsageError
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers import keyless

AUDIENCE = "sigstore"
VARIABLE = "SIGSTORE_ID_TOKEN"
# Where cosign looks too: Kubernetes and Tekton project a service account's token there.
FILE = Path("/var/run/sigstore/cosign/oidc-token")
_GITHUB_URL, _GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
_LARGEST = 64 << 10
_GITHUB_HINT = """\
give the job the permission:
permissions:
  contents: read
  id-token: write"""
_GITLAB_HINT = f"""\
let the job ask for it:
id_tokens:
  {VARIABLE}:
    aud: {AUDIENCE}"""
_HINT = f"set `{VARIABLE}`, name a token in `signing: keyless: token`, or have it at `{FILE}`"


def find(transport: Transport, *, given: Secret | None = None, file: Path = FILE) -> Secret:
    """A token with the audience `sigstore`; the first of these that there is.

    `given`, the variable `SIGSTORE_ID_TOKEN`, the one that GitHub gives a job, the content of `file`,
    and what else sigstore's library finds on CI systems. Raises UsageError when there is none,
    MachineError when the job may not get one, and ServiceError when GitHub does not answer.
    """
    if given is not None:
        return Secret(given.reveal().strip())
    if secret.is_known(VARIABLE):
        return Secret(secret.look_up(VARIABLE).reveal().strip())
    if secret.is_known(_GITHUB_TOKEN) and secret.is_known(_GITHUB_URL):
        return _from_github(transport)
    if file.exists():
        return _from_file(file)
    require_permission()
    found = keyless.detected()
    if found is None:
        raise UsageError("there is no OIDC token to sign with", hint=_HINT)
    return found


def require_permission() -> None:
    """Raise MachineError in a job that lacks the permission to get a token; asks nobody for one."""
    if secret.is_known(VARIABLE) or (secret.is_known(_GITHUB_TOKEN) and secret.is_known(_GITHUB_URL)):
        return
    if FILE.exists():
        return
    for variable, hint in (("GITHUB_ACTIONS", _GITHUB_HINT), ("GITLAB_CI", _GITLAB_HINT)):
        if secret.is_known(variable):
            raise MachineError("this job has no OIDC token to sign with", hint=hint)


def _from_github(transport: Transport) -> Secret:
    """What the runner's own address answers ("OpenID Connect reference", GitHub Docs)."""
    url, token = (secret.look_up(name).reveal() for name in (_GITHUB_URL, _GITHUB_TOKEN))
    check_encrypted(url)
    url += f"{'&' if urlsplit(url).query else '?'}audience={AUDIENCE}"
    what = "GitHub gives no OIDC token"
    answer = transport.request("GET", url, headers={"Authorization": f"Bearer {token}"})
    if answer.status != 200:
        raise ServiceError(answer.explained(what))
    try:
        value = manifest.load_object(answer.body(_LARGEST))["value"]
    except (ValueError, KeyError, RecursionError):
        value = None
    if not isinstance(value, str) or not value:
        raise ServiceError(f"{what}: the answer holds none")
    return Secret(value)


def _from_file(path: Path) -> Secret:
    content = files.read(path, at_most=_LARGEST, what="the OIDC token")
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise UsageError(f"the OIDC token `{path}` is empty, or no token")
    return Secret(text)
