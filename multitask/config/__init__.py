"""Configurations: checked against the signatures of what they describe, and built into objects."""
