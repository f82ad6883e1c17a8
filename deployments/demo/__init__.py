"""The replay of a year of New York flights through the real parts."""
