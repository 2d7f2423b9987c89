"""A comparison as one self-contained HTML page."""

from .content import NetworkDetail, Raster, Report, Sample
from .page import write

__all__ = ["NetworkDetail", "Raster", "Report", "Sample", "write"]
