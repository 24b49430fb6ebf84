"""What all frameworks' providers share: clients that open by themselves, and prompts."""
