"""Pictures of density grids: a PNG by matplotlib (extra ``plot``) and a page with 3D isosurfaces that needs nothing."""

from gridgrad.plot.page import write_page
from gridgrad.plot.picture import draw_gradient, draw_grid

__all__ = ["draw_gradient", "draw_grid", "write_page"]
