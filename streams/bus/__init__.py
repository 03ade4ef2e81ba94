"""The seam to the message bus."""
