"""Many scans: which they are, where their results go, and what is told of all of them."""
