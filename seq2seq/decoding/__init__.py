"""Search: from scores of the next token to whole sentences. It knows neither text nor network; see `stepper.py`."""
