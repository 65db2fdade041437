"""TensorRT's Python bindings: with the libraries that the wheel ``tensorrt`` brings, or alone beside installed ones."""

try:
    import tensorrt as trt
except ModuleNotFoundError:
    # In a tritonserver container, so that plans are built by the very libraries that load them.
    import tensorrt_bindings as trt

__all__ = ["trt"]
