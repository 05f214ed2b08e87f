"""A small chat whose users ask for pictures: what a product around imagegen looks like."""
