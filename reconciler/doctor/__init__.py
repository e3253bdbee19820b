"""Is everything around us as a backup and a restore need it? Tried for real, and told with the cure."""
