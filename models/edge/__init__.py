"""Models for machines without everfit: a folder with the model, how to feed it, and a script.

    model.onnx or model.tflite   the model
    edge.json                    schema, categories, classes, an example with its answers, lineage
    predict.py                   answers rows, in 30 lines
    cutting.py, terms.json       how texts are cut, where the model reads texts
    encoder.onnx                 what gives the vectors of texts, where the model reads those
    requirements.txt             what the script imports, in the versions it was proven with
    digest.json                  sha256 of every file, and of the whole; the script checks them

`export.export` writes it and proves it: the script itself answers, in a process of its own.
"""
