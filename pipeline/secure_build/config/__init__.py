"""secure-build.yaml: read once, strictly, into frozen models; the JSON schema comes from the same models."""

from secure_build.config.base import SecretName
from secure_build.config.load import Loaded, load, schema
from secure_build.config.models import (
    Build,
    BuiltImage,
    Config,
    Login,
    Play,
    RegistryAccess,
    SecretFile,
    UsedImage,
    Workload,
)
from secure_build.config.source import Source

__all__ = [
    "Build",
    "BuiltImage",
    "Config",
    "Loaded",
    "Login",
    "Play",
    "RegistryAccess",
    "SecretFile",
    "SecretName",
    "Source",
    "UsedImage",
    "Workload",
    "load",
    "schema",
]
