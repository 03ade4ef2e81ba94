"""What everybody must agree on: states, events, topics, errors, wire forms."""
