"""Phrases and tables that the pages share."""
