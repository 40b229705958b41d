"""The tasks. A new task takes a file that implements `multitask.tasks.base.Task` and a file in ``configs/task``."""
