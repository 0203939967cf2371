"""Who may call, what for, and how much: tokens, scopes, quotas."""
