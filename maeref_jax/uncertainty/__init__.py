"""Member probabilities -> labels, entropy, confidence."""
