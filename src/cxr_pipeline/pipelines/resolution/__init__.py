"""Decode every image to one size and one grey channel, and finalise which images are usable."""
