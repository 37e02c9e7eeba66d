"""Tekton's replacement of `$(…)`, in the controller's order, and Kubernetes' own after it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from action.tekton.objects import Invalid, Plain, Value

_TYPES = {list: "array", dict: "object"}
# Lists that are merged by a key, as Kubernetes does.
_MERGED_BY = {"env": "name", "volumeMounts": "mountPath"}


class Replacements:
    """Texts by the name that stands in `$(…)`; arrays replace whole items only."""

    def __init__(self, texts: Mapping[str, str], arrays: Mapping[str, Sequence[str]] | None = None) -> None:
        self._texts = dict(texts)
        self._arrays = dict(arrays or {})
        names = sorted(self._texts, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(f"$({name})") for name in names) or r"(?!)")

    def text(self, value: str) -> str:
        """In one pass: a value that itself holds `$(…)` is not looked at again."""
        return self._pattern.sub(lambda found: self._texts[found[0][2:-1]], value)

    def items(self, values: Iterable[Any]) -> list[str]:
        found: list[str] = []
        for value in values:
            named = re.fullmatch(r"\$\((.+?)(?:\[\*\])?\)", str(value))
            if named and named[1] in self._arrays:
                found += self._arrays[named[1]]
            else:
                found.append(self.text(as_text(value)))
        return found

    def everywhere(self, node: Any) -> Any:
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, list):
            return (
                self.items(node) if all(isinstance(it, str) for it in node) else [*map(self.everywhere, node)]
            )
        if isinstance(node, dict):
            return {key: self.everywhere(value) for key, value in node.items()}
        return node


def parameters(specs: Sequence[Plain], given: Mapping[str, Value]) -> Replacements:
    """What parameters give; raises Invalid for what a cluster would refuse."""
    values: dict[str, Value] = {}
    if unknown := set(given) - {spec["name"] for spec in specs}:
        raise Invalid(f"parameter {min(unknown)} is not declared")
    for spec in specs:
        name = spec["name"]
        if name not in given and "default" not in spec:
            raise Invalid(f"parameter {name} has no value")
        value = given.get(name, spec.get("default"))
        wanted = spec.get("type") or _TYPES.get(type(spec.get("default")), "string")
        if _TYPES.get(type(value), "string") != wanted:
            raise Invalid(f"parameter {name} wants {wanted}")
        values[name] = value
    texts: dict[str, str] = {}
    arrays: dict[str, list[str]] = {}
    for name, value in values.items():
        for form in (f"params.{name}", f'params["{name}"]', f"params['{name}']"):
            if isinstance(value, list):
                arrays[form] = [*map(as_text, value)]
                texts |= {f"{form}[{number}]": as_text(one) for number, one in enumerate(value)}
            elif isinstance(value, dict):
                texts |= {f"{form}.{key}": as_text(one) for key, one in value.items()}
            else:
                texts[form] = as_text(value)
    return Replacements(texts, arrays)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def merged(template: Plain, step: Plain) -> Plain:
    """A step over the step template."""
    result = copy.deepcopy(template)
    for name, value in step.items():
        if name in _MERGED_BY and result.get(name):
            key = _MERGED_BY[name]
            mine = {one[key] for one in value}
            result[name] = [*value, *(one for one in result[name] if one[key] not in mine)]
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def kubernetes(text: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' own `$(NAME)` in command, arguments and variables; unknown names stay, `$$` is one `$`."""
    return re.sub(
        r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)",
        lambda found: "$" if found[0] == "$$" else environment.get(found[1], found[0]),
        text,
    )
