"""The wishes: which messages ask for a picture, and for which; rules, three languages. Pure."""

from examples.chat.wishes.wish import Wish, wish_in

__all__ = ["Wish", "wish_in"]
