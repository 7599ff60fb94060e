"""The commands. This folder is the only one that imports Hydra."""
