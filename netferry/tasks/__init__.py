"""What the larger commands do, each as one function that Python may call."""
