"""What the monitoring library raises. Too little data is a result there, never one of these."""


class MonitoringError(Exception):
    """Base of all faults of the monitoring library."""


class WindowFault(MonitoringError):
    """Rows that no test can read: the column, the rule and the remedy."""


class StoreFault(MonitoringError):
    """The telemetry store refused or cannot be reached."""


class StateMoved(StoreFault):
    """The policy's state was changed by another process while a decision was made on it."""


class RecordFault(StoreFault):
    """A record that the store cannot hold as it is: the sender's fault, not the store's."""
