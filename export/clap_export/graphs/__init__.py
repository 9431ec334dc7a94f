"""Hand-written ONNX graphs of the two towers."""
