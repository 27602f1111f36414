"""Quantization-aware training and quantization distillation, in intervals that a checkpoint joins. Not a model trainer:
it starts from a trained network and makes it keep its accuracy in INT8."""
