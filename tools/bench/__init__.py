"""Measurements side by side with other toolkits."""
