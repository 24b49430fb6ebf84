"""From vectors to a folder: shards, the job that they belong to, who may write."""
