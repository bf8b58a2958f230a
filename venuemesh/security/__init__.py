"""Who may call what: tokens, scopes, certificates. Knows no venue."""
