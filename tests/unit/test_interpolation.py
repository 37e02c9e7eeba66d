"""Variables of compose files, as the Compose specification has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_build.contract import interpolation
from secure_build.errors import UsageError

# What compose makes of each of these with no variable set; None where it would have to be told.
DEFAULTS = [
    ("nginx:1.27", "nginx:1.27"),
    ("$$A", "$A"),
    ("$$$$", "$$"),
    ("${A:-b}", "b"),
    ("${A-b}", "b"),
    ("${A-}", ""),
    ("${A:-}x", "x"),
    ("${A:-a:1}/${B:-c}", "a:1/c"),
    ("${A:-${B:-c}}", "c"),
    ("${A:-x${B:-y}z}w", "xyzw"),
    ("${A:-${B}}", None),
    ("${A:-$B}", None),
    ("${A:+b}", ""),
    ("${A+b}c", "c"),
    ("$A", None),
    ("${A}", None),
    ("${A:?say so}", None),
    ("${A?}", None),
    ("x$_a1-y", None),
]
NO_VARIABLES = "${ ${} ${A ${A:-b ${A/b/c} ${A:b}".split()


@pytest.mark.parametrize(("text", "value"), DEFAULTS)
def test_defaults(text: str, value: str | None) -> None:
    assert interpolation.with_defaults(text) == value


# Of a lone `$` some versions of compose make nothing; no image has one in its name.
@pytest.mark.parametrize("text", [*NO_VARIABLES, "$", "a$", "$1", "$-"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="begins no variable"):
        interpolation.with_defaults(text)


@given(st.text("$ {}AB:-?+a1"))
def test_hardening_58_any_text_has_a_value_or_is_a_usage_error(text: str) -> None:
    try:
        value = interpolation.with_defaults(text)
    except UsageError:
        return
    assert value is None or "$" not in value.replace("$", "", text.count("$$"))


def test_hardening_58_variables_in_variables_have_an_end() -> None:
    with pytest.raises(UsageError, match="too deep"):
        interpolation.with_defaults("${A:-" * 1000 + "}" * 1000)


def test_the_variables_that_must_be_set() -> None:
    data = {"a": ["$B", "${C}", "${D:-${E}}", "$$F"], "g": {"h": "${I?x} ${J:?} ${K-}", "$L": 1}}
    assert interpolation.required(data) == ["B", "C", "E", "I", "J"]
