"""What operators mean, once for every framework: padding, layout, gates, inputs that are sizes."""
