"""The userspace plane: a TCP and UDP proxy in asyncio that needs no privilege and nothing of any kernel."""
