"""Training data: label maps, scans, crops, and synthetic scans made of them."""
