"""Rounds: one deployment checks many models, in processes that have imported everything once.

A check in a process of its own costs 15 to 18 seconds of CPU, nearly all of it imports; in a warm
one a third of a second. `flow` is the round, `pool` the processes, `checks` what each of them does,
`order` who comes first, `book` what is remembered from one round to the next.
"""
