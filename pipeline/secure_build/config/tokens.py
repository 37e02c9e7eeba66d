"""Recognising tokens and passwords where none belong: in build arguments, which end up in the image.

A guess from the outside of a value. It misses what looks like ordinary text, and takes some random
but public values for secrets; those are allowed by name.
"""

from __future__ import annotations

import math
import re
from collections import Counter

# As their makers document them: GitHub, GitLab, Slack, AWS, OpenAI and Anthropic, npm, PyPI, Google, IBM's
# Artifactory, Docker Hub, Hugging Face, DigitalOcean, HashiCorp.
_PREFIXES = re.compile(
    r"(?:gh[pousr]_|github_pat_|glpat-|gl(?:dt|rt|cbt)-|xox[abeprs]-|(?:AKIA|ASIA)[A-Z0-9]{8}"
    r"|AIza|ya29\.|AKCp|dckr_(?:pat|oat)_|dop_v1_|hvs\.)\S{8,}"
    # These begin ordinary names too.
    r"|(?:npm|hf)_[A-Za-z0-9]{20,}|pypi-Ag\S{16,}|sk-(?=\S*[0-9])(?=\S*[A-Z])\S{20,}"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")
_NAME = re.compile(
    r"(?:^|_)(?:\w*TOKEN|\w*PASSWORD|\w*PASSWD|\w*PASSPHRASE|\w*SECRET|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)(?:$|_)"
)
# What such a name adds when it is about a secret and holds none.
_ABOUT = re.compile(r"_(?:URL|URI|ENDPOINT|FILE|PATH|DIR|NAME|TTL|LENGTH|TIMEOUT|ENABLED)$")
_SWITCH = re.compile(r"true|false|yes|no|on|off|[01]", re.IGNORECASE)
# Not a path.
_RANDOM = re.compile(r"[A-Za-z0-9+_=-][A-Za-z0-9+/_=-]{31,}")
_PUBLIC_HASH = re.compile(r"sha(?:256|384|512)-[A-Za-z0-9+/]+={0,2}")
# Random base64 has about 4.7 bits in each of 40 characters; hexadecimal digests have at most 4.
_BITS = 4.3


def token_reason(name: str, value: str) -> str | None:
    """Why a build argument looks like a token or password; None when it does not."""
    text = value.strip()
    if not text:
        return None
    if _PREFIXES.match(text):
        return "it begins like an access token"
    if _PEM.search(text):
        return "it holds a private key"
    if _JWT.search(text):
        return "it holds a JSON web token"
    if _ADDRESS.search(text):
        return "it holds an address with a password"
    if _NAME.search(name.upper()) and not (_ABOUT.search(name.upper()) or _SWITCH.fullmatch(text)):
        return "its name says so"
    if _RANDOM.fullmatch(text) and not _PUBLIC_HASH.fullmatch(text) and _is_random(text):
        return "it is long and random"
    return None


def _is_random(text: str) -> bool:
    kinds = (str.isupper, str.islower, str.isdigit)
    if not all(any(kind(character) for character in text) for kind in kinds):
        return False
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts) > _BITS
