"""The cycle: puts the I/O packages together and makes the machine match the newest good commit."""
