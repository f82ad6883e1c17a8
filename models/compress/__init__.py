"""Smaller models: weights removed while a network learns, students of a teacher, int8 weights.

Each part is a room: `pace` says how much is to be gone by now, `pruner` takes it out of a network
in training, `units` makes what is left small, `grid` rounds weights to eight bits, `distil` teaches
a student, and `packed` is the file. `choices` are the parameters, and `perceptron` does for `mlp`
what they ask for.
"""
