"""Files of ONNX: how they are made, and what runs them."""
