"""Settings of the documentation site, which `make docs` builds by Sphinx. No network is needed."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING

from numpydoc.xref import DEFAULT_LINKS
from pygments.lexers.special import TextLexer
from sphinx import addnodes

import smedit

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

project = "SMEdit, reproduced"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]

html_theme = "furo"
html_title = project
html_copy_source = html_show_copyright = html_show_sphinx = False

default_role = "py:obj"  # `name` in a docstring: a link where the site has it, else plain code
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# In the types of parameters, links to the suite's own names alone, none to Python's on the net.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {name: name for name in DEFAULT_LINKS}
numpydoc_xref_aliases |= {name: f"smedit.{name}" for name in smedit.__all__}
python_use_unqualified_type_names = True

myst_heading_anchors = 3
myst_enable_extensions = ["substitution"]


def modules() -> str:
    """All modules of the package, read and not imported, with the first line of each docstring."""
    package = Path(smedit.__file__).parent
    found = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        found[name] = doc.partition("\n")[0]
    rows = (f"| `{name}` | {doc} |" for name, doc in sorted(found.items()))
    return "\n".join(["| module | what stands there |", "| --- | --- |", *rows])


myst_substitutions = {"modules": modules()}


INCLUDED = {"CONTRIBUTING": "contributing", "config/README": "configuration"}
"""Markdown file outside this folder → the page that includes it."""


def files_beside_docs(app: Sphinx, doctree: nodes.document) -> None:
    """Let a link to a Markdown file outside this folder lead to its page, or to a copy of the file.

    MyST does so for files of any other kind, but takes these for missing pages.
    """
    here = Path(app.env.doc2path(app.env.docname)).parent
    pages = {here.parent / file: page for file, page in INCLUDED.items()}
    for link in list(doctree.findall(addnodes.pending_xref)):
        file = Path(f"{link['reftarget']}.md")
        if Path(link["reftarget"]) in pages:
            link["reftarget"] = pages[Path(link["reftarget"])]
        elif link["refdomain"] == "doc" and file.is_absolute() and file.is_file():
            target = os.path.relpath(file, here)
            link.replace_self(addnodes.download_reference("", "", *link.children, reftarget=target))


def setup(app: Sphinx) -> None:
    """Sphinx calls this once."""
    app.add_lexer("mermaid", TextLexer)  # a code host draws these; here they stay text
    app.connect("doctree-read", files_beside_docs, priority=400)  # before copies are collected
