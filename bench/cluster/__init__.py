"""The cluster: three brokers of which one is killed under load, and what a quorum costs."""
