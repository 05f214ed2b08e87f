"""What control.sh does: from an empty machine to a running service, standard library only."""
