"""Answers of the services as tables and facts. Pure."""
