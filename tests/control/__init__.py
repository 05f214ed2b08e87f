"""The tests of control.sh."""
