"""Tests, their fakes and their brokers."""
