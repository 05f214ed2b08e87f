"""The GPU child: the diffusers pipeline in a process of its own, and the parent's handle on it."""
