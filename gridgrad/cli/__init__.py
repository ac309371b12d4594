"""The command ``gridgrad``: ``grid``, ``demo``, ``info``."""

from gridgrad.cli.main import main

__all__ = ["main"]
