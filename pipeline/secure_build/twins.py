"""The twins of flags in the environment: `--jobs 2` is `SECURE_BUILD_JOBS=2`.

They are derived from the parser. An empty variable counts as unset, and one that is nobody's twin is an
error; a flag that weakens a check or reveals a secret has none. Of the words without a dash, the verb has
one, and what is marked `with_twin`.
"""

from __future__ import annotations

import argparse

from secure_build.errors import UsageError

# What `typing` costs to import, `--help` would feel.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

PREFIX = "SECURE_BUILD_"
# Names the verb where the command line does not.
COMMAND = "SECURE_BUILD_COMMAND"
# Variables that are no flag's twin.
_OTHER_VARIABLES = frozenset({COMMAND, "SECURE_BUILD_SECRETS"})
# What the program answers without a verb.
_WITHOUT_VERB = ("-h", "--help", "--version")
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


class Several(argparse.Action):
    """A flag that may stand several times; together they replace what its variable says, one a line."""

    def __call__(
        self, _parser: object, namespace: argparse.Namespace, values: Any, _option: object = None
    ) -> None:
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, (*(() if given is self.default else given), values))


def without_twin(action: argparse.Action, why: str) -> None:
    """Give an option no variable; `why` goes into the message for who sets it."""
    action.without_twin = why  # type: ignore[attr-defined]


def with_twin(action: argparse.Action) -> None:
    """Give a positional a variable; where it takes several words, they are separated by white space."""
    action.with_twin = True  # type: ignore[attr-defined]


def with_command(
    parser: argparse.ArgumentParser, environment: Mapping[str, str], argv: Sequence[str]
) -> Sequence[str]:
    """The command line with the verb of the variable, where it names none; raises UsageError for an unknown
    one."""
    command = environment.get(COMMAND, "").split()
    if not command or (argv and (not argv[0].startswith("-") or argv[0] in _WITHOUT_VERB)):
        return argv
    known = [" ".join(verb) for verb in _verbs(parser)]
    if (given := " ".join(command)) not in known:
        close = _close(given, known)
        raise UsageError(
            f"`{COMMAND}` must be one of {', '.join(known)}",
            hint=f"did you mean `{close[0]}`?" if close else None,
        )
    return [*command, *argv]


def unused(parser: argparse.ArgumentParser, environment: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """The variables that are set, and that the verb of this command line does not take."""
    taken = {twin(action) for action in options(chosen(parser, argv))}
    twins = {twin(action) for action in options(parser)}
    return sorted(name for name in twins - taken if environment.get(name))


def apply_environment(
    parser: argparse.ArgumentParser, environment: Mapping[str, str], argv: Sequence[str]
) -> None:
    """Make variables the defaults of their flags; raises UsageError for one that nobody reads.

    A value has to suit the verb in `argv` only: verbs take different ones for the same flag.
    """
    without = {twin(action): why for action in options(parser) if (why := why_without(action))}
    actions = [action for action in options(parser) if not why_without(action)]
    known = {twin(action) for action in actions} | _OTHER_VARIABLES
    for name in sorted(name for name in environment if name.startswith(PREFIX) and environment[name]):
        if name not in known:
            close = _close(name, known)
            hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(sorted(known))}"
            if name in without:
                hint = f"this option {without[name]}, so it must be given on the command line"
            raise UsageError(f"the environment variable `{name}` means nothing", hint=hint)
    for action in options(chosen(parser, argv)):
        if why_without(action):
            continue
        value = environment.get(twin(action))
        if value:
            action.default = _from_variable(action, twin(action), value)
            action.required = False


def chosen(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the verb that the words begin with; verbs stand before all flags."""
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to its own table
        if isinstance(action, argparse._SubParsersAction) and argv and argv[0] in action.choices:  # noqa: SLF001
            verb: argparse.ArgumentParser = action.choices[argv[0]]
            return chosen(verb, argv[1:])
    return parser


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, ...]]:
    """Every verb, `contract` with each of its parts."""
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to its own table
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, sub in action.choices.items():
                yield from ((name, *further) for further in list(_verbs(sub)) or [()])


def why_without(action: argparse.Action) -> str | None:
    return getattr(action, "without_twin", None)


def twin(action: argparse.Action) -> str:
    """The variable of a flag, or of a positional that has one."""
    name = action.option_strings[-1].lstrip("-") if action.option_strings else action.dest
    return PREFIX + name.replace("-", "_").upper()


def flag(variable: str) -> str:
    """The name of a variable's flag, without dashes in front."""
    return variable.removeprefix(PREFIX).replace("_", "-").lower()


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to its own table
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for sub in action.choices.values():
                yield from options(sub)
        elif action.dest not in ("help", "version") and getattr(
            action, "with_twin", bool(action.option_strings)
        ):
            yield action


def _close(name: str, known: Iterable[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, known, n=1)


def _from_variable(action: argparse.Action, name: str, value: str) -> object:
    if action.nargs == 0:
        if value.lower() not in _TRUE + _FALSE:
            raise UsageError(f"`{name}` must be one of {', '.join(_TRUE + _FALSE)}")
        return value.lower() in _TRUE
    if action.nargs == "*":
        return tuple(value.split())
    if isinstance(action, Several):
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    if action.choices is not None and value not in action.choices:
        raise UsageError(f"`{name}` must be one of {', '.join(action.choices)}")
    if not callable(action.type):
        return value
    try:
        return action.type(value)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"`{name}`: {error}") from None
