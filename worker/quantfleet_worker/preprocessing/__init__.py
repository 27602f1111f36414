"""Preprocessing: from a sample file to the tensor that a model is fed, as the model's own configuration says."""
