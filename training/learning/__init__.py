"""How the model learns: phases, their settings, and what outlives a kill."""
