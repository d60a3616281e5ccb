"""What to do: decisions as pure functions over the model. Nothing here reads a clock or a file."""
