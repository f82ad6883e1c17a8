"""Everything that runs: command line, servers, the demo and its report."""
