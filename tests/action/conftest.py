"""The real parts that doors are tested with: those of the integration tests."""

from integration.conftest import (
    base,
    bases,
    copy_example,
    engine,
    examples_registry,
    owned,
    registry,
    short_path,
    sigstore,
    step_image,
    variables,
)

__all__ = [
    "base",
    "bases",
    "copy_example",
    "engine",
    "examples_registry",
    "owned",
    "registry",
    "short_path",
    "sigstore",
    "step_image",
    "variables",
]
