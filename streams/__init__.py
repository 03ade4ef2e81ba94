"""The moving parts: processors, their ground, and the seams to bus, tables, blobs and parsers."""
