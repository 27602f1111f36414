"""The engine `tensorrt`, in parts: what is pure has no import of TensorRT and says so by taking none as an argument."""
