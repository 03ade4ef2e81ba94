"""The seam to what turns a document into pages."""
