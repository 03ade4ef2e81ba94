"""The processes: configuration, wiring, gateway, worker, command line."""
