"""What several serving engines need alike; functions read the tables of one engine's folder."""
