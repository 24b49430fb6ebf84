"""What the model itself computes, and how near an artifact comes."""
