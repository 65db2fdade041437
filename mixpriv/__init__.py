"""Privacy-preserving segmentation of medical images between a client and a server (mixing and unmixing)."""

__version__ = "0.1.0"
