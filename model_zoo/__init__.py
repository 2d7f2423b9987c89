"""Names to things: architectures, weights and data sets."""

from .architectures import KnownArchitecture, find_architecture, known_architectures
from .datasets import open_dataset
from .image_data import ImageData
from .models import LoadedModel, load_model, load_skeleton
from .named_data import DATASETS
from .preprocessing import Preprocessing
from .spiking import shipped, spiking_files

__all__ = [
    "DATASETS",
    "ImageData",
    "KnownArchitecture",
    "LoadedModel",
    "Preprocessing",
    "find_architecture",
    "known_architectures",
    "load_model",
    "load_skeleton",
    "open_dataset",
    "shipped",
    "spiking_files",
]
