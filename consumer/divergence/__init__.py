"""The divergence: where a live vhost is not as the table says, and what mends it."""
