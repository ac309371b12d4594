"""What a grid is: its points and its profile. Numbers only."""

from gridgrad.grid.grid import Grid

__all__ = ["Grid"]
