"""The fleet repo: fetching it, reading one commit of it, verifying it. The only package that runs git."""
