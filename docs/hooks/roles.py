"""Docstrings in Sphinx's roles, for a site that is written in Markdown.

mkdocstrings reads Markdown, Python's own help and editors read roles such as ``:func:`find```.
The roles become links, where the site has the name, and code where it does not.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|ref):`(~?)([^`<>]+)`")
_LITERAL = re.compile(r"::$", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is None:
            return
        names = _Names(obj)
        text = _ROLE.sub(names.link, obj.docstring.value)
        obj.docstring.value = _LITERAL.sub(":", text)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Give classes the docstring that their code takes over from their base class."""
        ticket = pkg["ticket.ticket.Ticket"]
        ticket.docstring = ticket.docstring or ticket.resolved_bases[0].docstring


class _Names:
    """What names in the docstring of an object stand for."""

    def __init__(self, obj: griffe.Object) -> None:
        self._obj = obj

    def link(self, role: re.Match[str]) -> str:
        short, name = role[1] == "~", role[2]
        shown = name.rpartition(".")[2] if short else name
        path = name if name.startswith("fastglt.") else self._resolved(name)
        return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'

    def _resolved(self, name: str) -> str:
        try:
            return self._obj.resolve(name)
        except griffe.NameResolutionError:
            return name
