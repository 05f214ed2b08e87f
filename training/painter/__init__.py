"""The painter: a scene's record → its picture, at any size, on any device."""
