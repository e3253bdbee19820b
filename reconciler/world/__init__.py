"""What the world is to us: facts about it, and the ports through which it is reached."""
