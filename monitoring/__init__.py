"""Pure library: telemetry store, drift tests, performance from late labels, decision policy."""
