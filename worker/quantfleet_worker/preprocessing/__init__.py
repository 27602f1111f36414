"""From a sample's bytes to the model's input, and from its output to classes. Not for moving samples."""

from .postprocess import top_classes
from .preprocessor import PicturePreprocessor, Preprocessor, TensorPreprocessor, parse, revision

__all__ = [
    "PicturePreprocessor",
    "Preprocessor",
    "TensorPreprocessor",
    "parse",
    "revision",
    "top_classes",
]
