"""Room 5: where events go besides the subscribers of this process. One file each."""
