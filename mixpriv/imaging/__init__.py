"""Scans: reading, resampling, preprocessing. Knows no secret and no network address."""
