"""Text → Fleet, or diagnostics that say file:line:column. Pure: files are handed in."""
