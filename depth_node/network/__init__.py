"""Networks: where they come from, and the one ONNX graph that every engine runs."""
