"""Did it work: tasks, cost, agreement, report."""
