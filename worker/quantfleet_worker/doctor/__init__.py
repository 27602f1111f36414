"""The doctor: whether the engines of this host compute what they should, tried on a small model made on the spot."""
