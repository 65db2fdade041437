"""Whether a scan is what a bundle is for, and whether its result can be right: values, each with a limit."""
