"""Configurations: checks against constructor signatures, and construction of the objects that they describe."""
