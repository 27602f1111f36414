"""From a model's outputs to what its task wants: classes, a class for each pixel, boxes. Not for judging them."""
