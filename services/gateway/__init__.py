"""The HTTP gateway, a file per group of routes."""
