"""From frames to their metrics, one way: frames -> predictions -> scenes -> figures of merit."""
