"""Evaluation on a split: frames -> predictions -> scenes -> metrics."""
