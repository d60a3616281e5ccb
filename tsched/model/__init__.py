"""What things are: frozen values and closed sets. Imports nothing else of tsched and does no I/O."""
