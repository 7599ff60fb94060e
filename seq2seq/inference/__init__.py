"""Floor 3: a trained model made ready to decode fast, and batches of sentences put through it."""
