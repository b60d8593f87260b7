"""Where old blocks go: the cold files beside the segments."""

from .log import ColdStore, ColdWriter
from .streams import ColdFile

__all__ = ["ColdFile", "ColdStore", "ColdWriter"]
