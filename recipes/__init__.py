"""Corpora, one a file. To add yours read README.md beside this file."""
