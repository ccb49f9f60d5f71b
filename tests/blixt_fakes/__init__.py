"""Stand-ins for what a test's subject talks to."""
