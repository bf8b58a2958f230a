"""The commands, by subject. Light: what a command needs is imported when it runs."""
