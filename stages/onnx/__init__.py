"""The exported model, models/model.onnx, read and used without PyTorch: what export writes, predict and serve apply."""
