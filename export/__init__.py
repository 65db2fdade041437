"""Trained torch networks to ONNX, checked against torch, packed into a bundle. Installed as ``mixpriv.export``."""
