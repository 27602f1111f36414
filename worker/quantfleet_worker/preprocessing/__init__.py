"""From a sample's bytes to the model's inputs, as the model's own configuration says. Not for moving samples."""
