"""What `unitvec-export` takes from and shows to the person at the terminal."""
