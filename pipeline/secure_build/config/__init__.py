"""secure-build.yaml: read once, strictly, into frozen models; the JSON schema comes from the same models."""

from secure_build.config.audit import MEANINGS, Audit, Requirement
from secure_build.config.base import File, Login, SecretFile, SecretName
from secure_build.config.build import Build
from secure_build.config.encrypt import AuditorDisclosure, Certificate, Encrypt, SigningKey
from secure_build.config.keys import KeyOrCommand
from secure_build.config.load import Loaded, load, parse, schema
from secure_build.config.models import (
    BuiltImage,
    Config,
    Play,
    RegistryAccess,
    UsedImage,
    Workload,
)
from secure_build.config.sections import Env, SealedSecrets
from secure_build.config.signing import (
    CosignSigning,
    DctSigning,
    KeylessSigning,
    Lookaside,
    NotaryKey,
    Rekor,
    RhsSigning,
    Signing,
)
from secure_build.config.source import Source

__all__ = [
    "MEANINGS",
    "Audit",
    "AuditorDisclosure",
    "Build",
    "BuiltImage",
    "Certificate",
    "Config",
    "CosignSigning",
    "DctSigning",
    "Encrypt",
    "Env",
    "File",
    "KeyOrCommand",
    "KeylessSigning",
    "Loaded",
    "Login",
    "Lookaside",
    "NotaryKey",
    "Play",
    "RegistryAccess",
    "Rekor",
    "Requirement",
    "RhsSigning",
    "SealedSecrets",
    "SecretFile",
    "SecretName",
    "Signing",
    "SigningKey",
    "Source",
    "UsedImage",
    "Workload",
    "load",
    "parse",
    "schema",
]
