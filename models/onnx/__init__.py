"""Models in ONNX: written and proven when a bundle is made, answered from by ONNX Runtime.

Only `models.onnx.session` is needed to answer, and it imports NumPy and onnxruntime alone.
"""
