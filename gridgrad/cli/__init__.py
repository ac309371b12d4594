"""The command ``gridgrad``: ``grid``, ``prepare``, ``demo``, ``info``."""

from gridgrad.cli.main import main

__all__ = ["main"]
