"""Text in, batches of token ids out. It knows no network."""
