"""Campaigns: what the tests try a few times, many times. Run by hand, as ``python -m tests.campaigns.kills``."""
