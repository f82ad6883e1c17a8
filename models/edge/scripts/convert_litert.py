"""A program of torch.export as LiteRT: python convert_litert.py PROGRAM MODEL"""

import sys

import litert_torch
import torch

program = torch.export.load(sys.argv[1])
_, given = program.example_inputs
litert_torch.convert(program.module(), sample_kwargs=given).export(sys.argv[2])
