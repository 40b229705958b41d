"""The tasks. A new one is one file that implements `multitask.tasks.base.Task` and one file in ``configs/task``."""
