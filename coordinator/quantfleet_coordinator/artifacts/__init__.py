"""Where artifacts are kept, by their digests, and which of them may go."""
