"""The seam to the tables."""
