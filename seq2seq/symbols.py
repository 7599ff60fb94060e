"""Floor 0: the special tokens every floor agrees on, and the letters in which shapes are written.

Shapes in this project are batch first and use one legend:

    B  sentences of a batch          V  vocabulary
    K  hypotheses of one sentence    E  width of the model (d_model)
    R  rows, one a hypothesis: B*K   F  inner width of the feed-forward network (d_feedforward)
    S  source positions              H  attention heads
    T  target positions              D  width of one head (E / H)
    L  positions of either side      C  positions a cache has room for
"""

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
