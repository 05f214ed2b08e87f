"""What is seen in pictures, read from pixels alone, and compared with what was asked for."""
