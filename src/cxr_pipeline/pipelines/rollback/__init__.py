"""Restore the previous champion."""
