"""Imports what the tool imports, so that Python keeps the bytecode of that, and of nothing else."""

import contextlib
import importlib
import pkgutil

import secure_build

# The tool imports these when they are needed; on s390x it goes without the last two.
LATE = ("git", "rich.console", "nacl.secret", "sigstore.sign")

for module in pkgutil.walk_packages(secure_build.__path__, "secure_build."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
for name in LATE:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
