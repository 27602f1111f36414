"""The engine `tensorrt`, in parts; those that import TensorRT do so when they are called. Named unlike the library."""
