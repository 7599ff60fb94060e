"""Training, as in section 5 of the paper, on Lightning. This folder is the only one that imports it."""
