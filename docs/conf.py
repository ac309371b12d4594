"""Sphinx configuration. The figures are drawn by figures.py before the pages are read."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import figures

project = "gridgrad"
author = "the gridgrad developers"
copyright = author
version = release = installed_version("gridgrad")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",  # pages need no network
]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
templates_path = []
nitpicky = False

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_checks = set()

html_theme = "furo"
html_title = f"gridgrad {release}"
html_static_path = ["_static"]
html_show_sphinx = False


def setup(app):
    """Draw the figures."""
    figures.draw(HERE / "_static" / "figures")
