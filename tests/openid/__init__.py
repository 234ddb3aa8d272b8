"""Tests of the login at a provider, with one that lies."""
