"""Problems of data sets and checks told without quoting them, where a target shows no examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from reconciler.domain.errors import Problem

_CONFIDENTIAL: Final = re.compile(r"spec\.(dataset|checks|\w+\.validationDataset)\b")
_QUOTED: Final = (
    (re.compile(r'the text ".*"', re.DOTALL), "a text"),
    (re.compile(r"the number \S+"), "a number"),
    (re.compile(r'".*"', re.DOTALL), '"…"'),
    (re.compile(r"(that RE2 takes: [^:]*).*", re.DOTALL), r"\1"),
    (re.compile(r"(to one that is there): .*", re.DOTALL), r"\1"),
)
"""What messages quote: values of fields, parts of expressions, and headers, which may be an example in disguise."""


def discreet_problems(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The problems, in which no part of an example, a prompt or an expectation stands."""
    for problem in problems:
        if _CONFIDENTIAL.match(problem.path):
            yield replace(problem, message=_discreet(problem.message), remedy=_discreet(problem.remedy))
        else:
            yield problem


def _discreet(text: str) -> str:
    for quoted, stand_in in _QUOTED:
        text = quoted.sub(stand_in, text)
    return text
