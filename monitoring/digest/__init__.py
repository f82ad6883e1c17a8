"""The digest of some days: what was checked, decided, retrained and measured, on one page.

`facts` gathers it from stored decisions, `drawing` draws it, `page` writes it for people.
"""
