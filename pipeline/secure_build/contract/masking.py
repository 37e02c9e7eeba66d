"""A section's text with its secrets as `***`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from yaml.nodes import ScalarNode

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.edit import Edits
from secure_build.contract.schema.secrecy import secret_paths
from secure_build.errors import UsageError
from secure_build.secret import MASK
from secure_build.strict_yaml import Document, Path


def masked(document: Document, model: type[BaseModel]) -> str:
    """The document's text with each secret, and each value that the model does not know, as `***`.

    Everything else is as it was, byte for byte; where that cannot be, the document is written anew.
    """
    paths = secret_paths(model, document.data)
    if () in paths:
        return text.scalar(MASK) + "\n"
    expected = _masked(document.data, (), set(paths))
    try:
        edits = Edits(document)
        for path in paths:
            _mask(document, edits, path)
        result = edits.apply()
        if strict_yaml.load(result.encode(), document.name, largest=len(result) * 4).data == expected:
            return result
    except UsageError:
        pass
    return text.dump(expected)


def _mask(document: Document, edits: Edits, path: Path) -> None:
    holder, last = strict_yaml.at(document.root, path[:-1]), path[-1]
    if isinstance(last, str):
        found = strict_yaml.find(holder, last)
        assert found is not None
        edits.replace_value(found.key, found.value, text.scalar(MASK))
    else:
        node = holder.value[last]
        assert isinstance(node, ScalarNode)
        edits.replace_scalar(node, text.scalar(MASK))


def _masked(data: Any, path: Path, secret: set[Path]) -> Any:
    if isinstance(data, dict):
        return {key: _masked(value, (*path, key), secret) for key, value in data.items()}
    if isinstance(data, list):
        return [_masked(value, (*path, index), secret) for index, value in enumerate(data)]
    return MASK if path in secret else data
