"""What people look at: panels of pictures, tables, plots and TensorBoard."""
