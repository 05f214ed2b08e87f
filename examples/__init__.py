"""Clients of imagegen that are meant to be read: a chat, and minimal publishers."""
