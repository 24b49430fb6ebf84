"""Who may call, and over what."""
