"""Attacks by networks. They need PyTorch, so they are imported when they run."""
