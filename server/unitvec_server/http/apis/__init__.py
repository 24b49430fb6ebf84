"""The APIs of other systems over HTTP, each translated to the engine and back."""
