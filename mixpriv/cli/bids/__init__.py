"""``mixpriv-bids``: a BIDS App, which takes a dataset and makes one of derivatives."""

PROGRAM = "mixpriv-bids"
