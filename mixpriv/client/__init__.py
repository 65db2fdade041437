"""The trusted side: it knows the scan, the reference, the key and the weight, and what it sends shows none of them."""
