"""Accuracy on labelled scans through the client's own code: cases, methods, metrics, statistics, report."""
