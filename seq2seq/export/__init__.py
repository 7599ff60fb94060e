"""Floor 4: the model in other toolkits' formats, one a file; each is an extra."""
