"""Output for people: panels of pictures, tables, plots and TensorBoard."""
