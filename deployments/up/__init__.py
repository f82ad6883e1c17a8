"""`everfit up`: all that a loop needs on one machine, started, watched and stopped in order."""
