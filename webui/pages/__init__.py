"""One file a tab: lays out components, starts jobs, hands results to views."""
