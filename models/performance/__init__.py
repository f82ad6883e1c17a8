"""What a trial will take and how good it will be, foretold from all trials that ever ended.

For each family and figure a ridge regression on the parameters and the number of rows is the start;
a Gaussian process takes its place where it is certainly better on trials that it has not learnt.
"""

from models.performance.foretelling import Foretold, Performance
from models.performance.report import Report
from models.performance.seen import Seen, seen

__all__ = ["Foretold", "Performance", "Report", "Seen", "seen"]
