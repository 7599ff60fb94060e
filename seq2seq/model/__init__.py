"""The Transformer. It knows no text: token ids in, scores out. Start reading at `transformer.py`."""
