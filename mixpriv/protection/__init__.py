"""What makes a request of a scan and reveals its answer; knows key, reference, weight and warp."""
