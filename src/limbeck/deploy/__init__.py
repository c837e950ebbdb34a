"""Files of models for ONNX Runtime, the proof of what each of them keeps, and running them."""
