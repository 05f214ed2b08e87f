"""Tests that need more than Python and RabbitMQ: `make check-full`."""
