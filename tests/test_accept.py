"""The accept: which representation is sent, for every shape of the header."""

import pytest

from consumer.http.accept import best

OFFERED = ["application/json", "image/png", "image/webp"]

CHOICES = {
    None: "application/json",
    "": "application/json",
    "*/*": "application/json",
    "application/json": "application/json",
    "application/*": "application/json",
    "image/*": "image/png",
    "image/webp": "image/webp",
    "IMAGE/WebP": "image/webp",
    "image/webp;q=1, image/png;q=0.9": "image/webp",
    "image/png;q=0.9, image/webp": "image/webp",
    "image/*, image/png;q=0": "image/webp",
    "*/*;q=0.1, image/webp": "image/webp",
    "image/webp, */*": "image/webp",
    "image/webp;q=0.5, */*": "application/json",
    "application/json;q=0, */*": "image/png",
    "text/html, application/xhtml+xml, */*;q=0.8": "application/json",
    "image/png; q=nonsense": "image/png",
    "image/png;q=7, image/webp": "image/png",
    " , image/webp ,, ": "image/webp",
    "text/html": None,
    "image/gif": None,
    "*/*;q=0": None,
    "image/*;q=0, application/json;q=0.0": None,
    "image": None,
}


@pytest.mark.parametrize("header", CHOICES, ids=repr)
def test_the_best_is_sent(header):
    """The most exact range gives a type its quality; of equal ones the more exactly named wins."""
    assert best(header, OFFERED) == CHOICES[header]
