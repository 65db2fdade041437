"""From a scan to the image that a bundle works on."""
