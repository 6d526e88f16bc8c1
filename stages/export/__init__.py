"""The trained model as ONNX, and the proof that it gives the same answers."""
