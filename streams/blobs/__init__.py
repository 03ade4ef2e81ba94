"""The seam to where bytes are kept."""
